"""The typed protocol: rows as plain JSON, refused by row and column."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from corelane.core.errors import RequestError
from corelane.serve.config import ServeConfig
from corelane.serve.records import RecordCodec
from corelane.serve.request import Request, Response
from corelane.serve.server import ModelServer
from tests.serve.packages import image_package, labels_package, mixed_package, numeric_package, png
from tests.serve.test_oip import JSON_VALUES


def codec_of(path: Path) -> Iterator[RecordCodec]:
    server = ModelServer(path, ServeConfig())
    yield RecordCodec(server)
    server.close()


@pytest.fixture(scope="module")
def numeric(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordCodec]:
    yield from codec_of(numeric_package(tmp_path_factory.mktemp("packages")))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordCodec]:
    yield from codec_of(mixed_package(tmp_path_factory.mktemp("packages")))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordCodec]:
    yield from codec_of(image_package(tmp_path_factory.mktemp("packages")))


def parse(codec: RecordCodec, rows: Any) -> Request:
    return codec.parse(json.dumps({"rows": rows}).encode())


def test_rows_of_numbers_become_a_matrix(numeric: RecordCodec) -> None:
    """Records of a numeric model become one matrix in schema order; null is missing."""
    request = parse(numeric, [{"x3": 4, "x1": None, "x0": 1, "x2": 3.5}])
    np.testing.assert_array_equal(request.inputs, [[1.0, np.nan, 3.5, 4.0]])  # type: ignore[arg-type]
    assert request.num_rows == 1


def test_rows_of_mixed_columns_become_columns(mixed: RecordCodec) -> None:
    """Records of a mixed model become columns of numbers and texts."""
    request = parse(mixed, [{"age": 1, "weight": None, "colour": "red"}, {"age": 2, "weight": 3, "colour": None}])
    assert request.inputs["colour"] == ["red", None]  # type: ignore[index]
    assert request.inputs["age"].tolist() == [1.0, 2.0]  # type: ignore[index]


def test_an_image_is_nested_pixels_or_a_file(picture: RecordCodec) -> None:
    """Grey pixels with or without their channel axis, and base64 of an image file, are the same image to the model."""
    pixels = np.arange(20, dtype=np.uint8).reshape(4, 5, 1)
    for nested in (pixels.tolist(), pixels[:, :, 0].tolist()):
        assert parse(picture, [{"image": nested}]).inputs["image"].tolist() == [pixels.tolist()]  # type: ignore[index]
    file = png(pixels)
    assert parse(picture, [{"image": base64.b64encode(file).decode()}]).inputs["image"] == [file]  # type: ignore[index]


BAD = {
    "no rows": ("rows", {}),
    "empty": ("at least one row", {"rows": []}),
    "not a list": ("rows", {"rows": {"age": 1}}),
    "something else beside": ("rows", {"rows": [{"age": 1, "weight": 1, "colour": None}], "row": 1}),
    "row no object": ("row 0 must be an object", {"rows": [1]}),
    "unknown column": ("did you mean 'age'", {"rows": [{"agee": 1, "weight": 1, "colour": "red"}]}),
    "missing column": ("'weight' must be given", {"rows": [{"age": 1, "colour": "red"}]}),
    "text for a number": ("'age' must be numbers", {"rows": [{"age": "1", "weight": 1, "colour": "red"}]}),
    "number for a text": ("'colour' must be strings", {"rows": [{"age": 1, "weight": 1, "colour": 3}]}),
}


@pytest.mark.parametrize(("says", "body"), BAD.values(), ids=BAD.keys())
def test_bad_rows_are_refused_in_words(mixed: RecordCodec, says: str, body: Any) -> None:
    """Every deviation is a `RequestError` that names row or column."""
    with pytest.raises(RequestError, match=says):
        mixed.parse(json.dumps(body).encode())


@pytest.mark.parametrize("pixels", [[], [[]], [[1, 2], [3]], 7, None, [[[0.5]]], [["a"]], {"a": 1}])
def test_bad_pixels_are_refused(picture: RecordCodec, pixels: Any) -> None:
    """Ragged, empty or odd pixels are refused."""
    with pytest.raises(RequestError):
        parse(picture, [{"image": pixels}])


@settings(max_examples=200, deadline=None)
@given(cell=JSON_VALUES)
def test_no_cell_raises_anything_but_a_request_error(mixed: RecordCodec, picture: RecordCodec, cell: Any) -> None:
    """Whatever stands in a cell is accepted or refused, never broken."""
    for codec, row in ((mixed, {"age": 1, "weight": cell, "colour": cell}), (picture, {"image": cell})):
        with suppress(RequestError):
            assert isinstance(parse(codec, [row]), Request)


def test_predictions_are_plain_records(mixed: RecordCodec, picture: RecordCodec) -> None:
    """A regression answers values, a classification labels with probabilities by label."""
    request = Request({}, 1, 0)
    assert json.loads(mixed.render(Response(request, {"value": np.array([1.5])}))[0]) == {
        "model": "mixed",
        "version": 1,
        "predictions": [{"value": 1.5}],
    }
    outputs = {"label": np.array(["cat"], object), "probabilities": np.array([[0.75, 0.25]], np.float32)}
    assert json.loads(picture.render(Response(request, outputs))[0])["predictions"] == [
        {"label": "cat", "probabilities": {"cat": 0.75, "dog": 0.25}}
    ]


def test_several_labels_are_listed(tmp_path: Path) -> None:
    """A row's labels by name, and the probability of each that there is."""
    outputs = {"labels": np.array([[False, True]]), "probabilities": np.array([[0.25, 0.75]], np.float32)}
    for codec in codec_of(labels_package(tmp_path)):
        assert json.loads(codec.render(Response(Request({}, 1, 0), outputs))[0])["predictions"] == [
            {"labels": ["cold"], "probabilities": {"wet": 0.25, "cold": 0.75}}
        ]
