"""The Open Inference Protocol in JSON: what is accepted means what it says, everything else is a `RequestError`."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corelane.core.errors import RequestError
from corelane.core.types import JsonObject
from corelane.model.package import ModelPackage
from corelane.serve.oip import OipCodec
from corelane.serve.request import Envelope, Request, Response
from tests.serve.live import tensor
from tests.serve.packages import image_package, labels_package, mixed_package, numeric_package, png


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages")


@pytest.fixture(scope="module")
def numeric(home: Path) -> OipCodec:
    return OipCodec(ModelPackage.load(numeric_package(home)))


@pytest.fixture(scope="module")
def mixed(home: Path) -> OipCodec:
    return OipCodec(ModelPackage.load(mixed_package(home)))


@pytest.fixture(scope="module")
def picture(home: Path) -> OipCodec:
    return OipCodec(ModelPackage.load(image_package(home)))


def parse(codec: OipCodec, *inputs: Any, **options: Any) -> Request:
    return codec.parse(json.dumps({"inputs": list(inputs), **options}).encode())


ROW = [1.0, 2.0, 3.0, 4.0]
MATRIX = tensor("features", ROW, [1, 4])
AGE = tensor("age", [30, 40], [2])
WEIGHT = tensor("weight", [None, 70.5], [2])
COLOUR = tensor("colour", ["red", None], [2], "BYTES")


@pytest.mark.parametrize("datatype", ["FP32", "FP64", "INT64", "UINT8"])
@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2, 3, 4]]], ids=["flat", "nested"])
def test_a_numeric_model_takes_one_matrix(numeric: OipCodec, datatype: str, data: Any) -> None:
    """All numeric columns may come as one tensor, of any number type, nested or flat."""
    request = parse(numeric, tensor("features", data, [1, 4], datatype))
    assert request.num_rows == 1
    assert request.inputs.tolist() == [ROW]  # type: ignore[union-attr]


def test_a_numeric_model_takes_its_columns_too(numeric: OipCodec) -> None:
    """The columns by name, in any order and as [n] or [n, 1], mean the same matrix; null is missing."""
    columns = [tensor(f"x{index}", [[value], [value]], [2, 1]) for index, value in enumerate([1.0, None, 3.0, 4.0])]
    request = parse(numeric, *reversed(columns))
    assert request.num_rows == 2
    np.testing.assert_array_equal(request.inputs, [[1.0, np.nan, 3.0, 4.0]] * 2)  # type: ignore[arg-type]


def test_a_mixed_model_takes_columns(mixed: OipCodec) -> None:
    """Numbers, texts and missing values come by column name."""
    request = parse(mixed, AGE, COLOUR, WEIGHT)
    assert request.inputs["age"].tolist() == [30.0, 40.0]  # type: ignore[index]
    assert request.inputs["colour"] == ["red", None]  # type: ignore[index]
    assert np.isnan(request.inputs["weight"][0])  # type: ignore[index]


def test_images_come_as_pixels_or_as_files(picture: OipCodec) -> None:
    """Pixels as UINT8, with or without the channel axis of a grey image; files as base64 texts in BYTES."""
    pixels = np.arange(20, dtype=np.uint8)
    for shape in ([1, 4, 5, 1], [1, 4, 5]):
        request = parse(picture, tensor("image", pixels.tolist(), shape, "UINT8"))
        assert request.inputs["image"].shape == (1, 4, 5, 1)  # type: ignore[index]
        assert request.inputs["image"].dtype == np.uint8  # type: ignore[index]
    file = png(pixels.reshape(4, 5, 1))
    request = parse(picture, tensor("image", [base64.b64encode(file).decode()], [1], "BYTES"))
    assert request.inputs["image"] == [file]  # type: ignore[index]


def test_id_outputs_and_deadline_are_kept(numeric: OipCodec) -> None:
    """The id, the outputs asked for and the deadline travel with the request; an empty list of outputs means all."""
    body = {"inputs": [MATRIX], "id": "a \u2603", "outputs": [{"name": "label"}], "parameters": {"anything": 1}}
    request = numeric.parse(json.dumps(body).encode(), Envelope(deadline_s=5.0))
    assert (request.id, request.outputs, request.deadline_s) == ("a \u2603", ("label",), 5.0)
    assert parse(numeric, MATRIX, outputs=[]).outputs is None


BAD: dict[str, tuple[str, Any]] = {
    "no object": ("object", [1]),
    "no inputs": ("inputs must be", {}),
    "empty inputs": ("inputs must be", {"inputs": []}),
    "inputs no list": ("inputs must be", {"inputs": {"features": 1}}),
    "input no object": ("a tensor must be", {"inputs": [1]}),
    "name no string": ("a tensor must be", {"inputs": [{**MATRIX, "name": 1}]}),
    "unknown input": ("did you mean 'x", {"inputs": [{**MATRIX, "name": "x"}]}),
    "duplicated input": ("given once", {"inputs": [tensor("x0", [1], [1]), tensor("x0", [1], [1])]}),
    "missing input": ("'x1' must be given", {"inputs": [tensor("x0", [1], [1])]}),
    "matrix twice": ("must be one the model knows", {"inputs": [MATRIX, MATRIX]}),
    "unequal rows": (
        "must have 1 rows",
        {"inputs": [tensor(f"x{index}", [1] * (1 + index // 3), [1 + index // 3]) for index in range(4)]},
    ),
    "no shape": ("shape", {"inputs": [{"name": "features", "datatype": "FP64", "data": ROW}]}),
    "wrong width": ("must be [-1, 4]", {"inputs": [tensor("features", ROW, [2, 2])]}),
    "one axis": ("must be [-1, 4]", {"inputs": [tensor("features", ROW, [4])]}),
    "negative shape": ("shape", {"inputs": [tensor("features", ROW, [-1, 4])]}),
    "no rows": ("at least one row", {"inputs": [tensor("features", [], [0, 4])]}),
    "fractional shape": ("shape", {"inputs": [tensor("features", ROW, [1.0, 4])]}),  # type: ignore[list-item]
    "boolean shape": ("shape", {"inputs": [tensor("features", ROW, [True, 4])]}),
    "overflowing shape": ("shape", {"inputs": [tensor("features", ROW, [2**63, 4])]}),
    "huge rank": ("shape", {"inputs": [tensor("features", ROW, [1] * 10**4)]}),
    "product beyond memory": ("elements", {"inputs": [tensor("features", ROW, [2**31 - 1, 4])]}),
    "too little data": ("elements", {"inputs": [tensor("features", [1.0], [1, 4])]}),
    "no data": ("must be a list", {"inputs": [{"name": "features", "datatype": "FP64", "shape": [1, 4]}]}),
    "text for numbers": ("must be numbers", {"inputs": [tensor("features", ["1", "2", "3", "4"], [1, 4])]}),
    "boolean for a number": ("must be numbers", {"inputs": [tensor("features", [1, 2, 3, True], [1, 4])]}),
    "unknown datatype": ("datatype", {"inputs": [tensor("features", ROW, [1, 4], "FP99")]}),
    "unhashable datatype": ("datatype", {"inputs": [{**MATRIX, "datatype": []}]}),
    "text datatype": ("datatype", {"inputs": [tensor("features", ROW, [1, 4], "BYTES")]}),
    "fraction as integer": ("whole numbers", {"inputs": [tensor("features", [1.5, 2, 3, 4], [1, 4], "INT32")]}),
    "integer too large": ("from 0 to 255", {"inputs": [tensor("features", [256, 2, 3, 4], [1, 4], "UINT8")]}),
    "unknown output": ("did you mean 'label'", {"inputs": [MATRIX], "outputs": [{"name": "labels"}]}),
    "duplicated output": ("given once", {"inputs": [MATRIX], "outputs": [{"name": "label"}, {"name": "label"}]}),
    "outputs no list": ("outputs must be", {"inputs": [MATRIX], "outputs": "label"}),
    "output no object": ("a tensor must be", {"inputs": [MATRIX], "outputs": ["label"]}),
    "id no string": ("id must be", {"inputs": [MATRIX], "id": 7}),
    "null id": ("id must be", {"inputs": [MATRIX], "id": None}),
    "huge id": ("id must be", {"inputs": [MATRIX], "id": "x" * 10**6}),
    "odd parameters": ("parameters", {"inputs": [MATRIX], "parameters": [1]}),
    "nested parameters": ("parameters", {"inputs": [MATRIX], "parameters": {"a": {"b": 1}}}),
    "odd tensor parameters": ("parameters", {"inputs": [{**MATRIX, "parameters": 3}]}),
    "binary data in both places": ("got both", {"inputs": [{**MATRIX, "parameters": {"binary_data_size": 32}}]}),
}


@pytest.mark.parametrize(("says", "body"), BAD.values(), ids=BAD.keys())
def test_a_bad_request_is_refused_in_words(numeric: OipCodec, says: str, body: Any) -> None:
    """Every deviation is a `RequestError` whose short message names the part at fault."""
    with pytest.raises(RequestError) as caught:
        numeric.parse(json.dumps(body).encode())
    assert says in caught.value.message
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nonsense", b"\xff\xfe", b"[" * 10**5, b'{"inputs": [NaN]}', b'{"a": "\\ud800"}', b"1e999", b"{}{}"],
)
def test_what_is_no_json_is_refused(numeric: OipCodec, body: bytes) -> None:
    """Empty, cut, deep, non-finite or wrongly encoded text is one clear error."""
    with pytest.raises(RequestError, match="the body must be JSON"):
        numeric.parse(body)


BAD_COLUMNS = {
    "number for text": ("strings", [AGE, WEIGHT, tensor("colour", ["red", 1], [2], "BYTES")]),
    "text column as number": ("datatype", [AGE, WEIGHT, tensor("colour", [1, 2], [2])]),
    "number column as text": ("datatype", [tensor("age", ["1", "2"], [2], "BYTES"), WEIGHT, COLOUR]),
    "two axes": ("shape", [tensor("age", [1, 2], [1, 2]), WEIGHT, COLOUR]),
    "text with two axes": ("shape", [AGE, WEIGHT, tensor("colour", ["red", "red"], [1, 2], "BYTES")]),
    "matrix for a mixed model": ("must be one the model knows", [MATRIX]),
}


@pytest.mark.parametrize(("says", "inputs"), BAD_COLUMNS.values(), ids=BAD_COLUMNS.keys())
def test_bad_columns_are_refused(mixed: OipCodec, says: str, inputs: list[Any]) -> None:
    """Columns of the wrong kind or shape are refused by name."""
    with pytest.raises(RequestError, match=says):
        parse(mixed, *inputs)


@pytest.mark.parametrize(
    "given_tensor",
    [
        tensor("image", [0] * 20, [1, 5, 4, 1], "UINT8"),
        tensor("image", [0] * 60, [1, 4, 5, 3], "UINT8"),
        tensor("image", [300] * 20, [1, 4, 5, 1], "UINT8"),
        tensor("image", [None] * 20, [1, 4, 5, 1], "UINT8"),
        tensor("image", [0.5] * 20, [1, 4, 5, 1], "FP32"),
        tensor("image", ["%%"], [1], "BYTES"),
        tensor("image", [1], [1], "BYTES"),
    ],
)
def test_bad_images_are_refused(picture: OipCodec, given_tensor: JsonObject) -> None:
    """An image of another size, with impossible pixels or in no base64 is refused."""
    with pytest.raises(RequestError):
        parse(picture, given_tensor)


JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=10,
)
FIELDS = st.sampled_from(["inputs", "outputs", "id", "parameters", "name", "shape", "datatype", "data"])
NEARLY = st.recursive(
    st.one_of(JSON_VALUES, st.sampled_from(["features", "FP32", "label", [1, 4], ROW])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(FIELDS, inner, max_size=8)),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(body=st.one_of(st.binary(max_size=200), NEARLY.map(lambda value: json.dumps(value).encode())))
def test_no_body_raises_anything_but_a_request_error(numeric: OipCodec, body: bytes) -> None:
    """Whatever arrives is a request or refused as one: no other exception leaves the codec."""
    with suppress(RequestError):
        assert isinstance(numeric.parse(body), Request)


@settings(max_examples=200, deadline=None)
@given(replaced=st.dictionaries(st.sampled_from(["name", "shape", "datatype", "data", "parameters"]), NEARLY))
def test_no_tensor_raises_anything_but_a_request_error(mixed: OipCodec, replaced: JsonObject) -> None:
    """A good request with any of one tensor's fields replaced is accepted or refused, never broken."""
    with suppress(RequestError):
        assert isinstance(parse(mixed, {**AGE, **replaced}, WEIGHT, COLOUR), Request)


def test_a_reply_names_what_was_asked(numeric: OipCodec) -> None:
    """The reply echoes model, version and id, and holds the outputs asked for, flat with their shape."""
    request = parse(numeric, MATRIX, id="7", outputs=[{"name": "probabilities"}])
    outputs = {"label": np.array([1]), "probabilities": np.array([[0.25, 0.5, 0.25]], np.float32)}
    assert json.loads(numeric.render(Response(request, outputs))[0]) == {
        "model_name": "m",
        "model_version": "1",
        "id": "7",
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [1, 3], "data": [0.25, 0.5, 0.25]}],
    }
    every = json.loads(numeric.render(Response(parse(numeric, MATRIX), outputs))[0])
    assert "id" not in every
    assert [output["name"] for output in every["outputs"]] == ["label", "probabilities"]


def test_text_labels_are_bytes_tensors(picture: OipCodec) -> None:
    """Labels that are texts come as a BYTES tensor of strings."""
    request = parse(picture, tensor("image", [0] * 20, [1, 4, 5, 1], "UINT8"))
    outputs = {"label": np.array(["cat"], object), "probabilities": np.zeros((1, 2), np.float32)}
    label = json.loads(picture.render(Response(request, outputs))[0])["outputs"][0]
    assert label == {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["cat"]}


def test_metadata_describes_inputs_and_outputs(numeric: OipCodec, mixed: OipCodec) -> None:
    """Metadata names the tensors a client may send, the one matrix where there is one."""
    assert numeric.metadata() == {
        "name": "m",
        "versions": ["1"],
        "platform": "onnx_onnxruntime",
        "inputs": [{"name": "features", "datatype": "FP64", "shape": [-1, 4]}],
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
        ],
    }
    assert [entry["name"] for entry in mixed.metadata()["inputs"]] == ["age", "weight", "colour"]


def test_several_labels_are_a_tensor_of_flags(home: Path) -> None:
    """BOOL [n, k], true and false in JSON."""
    codec = OipCodec(ModelPackage.load(labels_package(home)))
    request = parse(codec, tensor("features", [1.0, 2.0], [1, 2], "FP64"))
    outputs = {"labels": np.array([[False, True]]), "probabilities": np.array([[0.25, 0.75]], np.float32)}
    labels = json.loads(codec.render(Response(request, outputs))[0])["outputs"][0]
    assert labels == {"name": "labels", "datatype": "BOOL", "shape": [1, 2], "data": [False, True]}
    assert codec.metadata()["outputs"][0] == {"name": "labels", "datatype": "BOOL", "shape": [-1, 2]}
