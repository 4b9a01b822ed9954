"""What the compiled pipeline takes and refuses; that its bits equal the columns way is in `conformance`."""

from __future__ import annotations

import decimal
import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corelane.core.errors import RequestError
from corelane.data.compiled import CompiledPipeline
from corelane.data.schema import Column
from tests.data.examples import encoded, fitted, picture


@pytest.fixture(scope="module")
def mixed() -> CompiledPipeline:
    columns = [
        Column("age", "numeric", minimum=0.0, maximum=150.0),
        Column("height", "numeric", nullable=False),
        Column("colour", "categorical"),
        Column("grade", "categorical", nullable=False, categories=("a", "b")),
        Column("x", "tensor", shape=(2,), nullable=False),
        Column("image", "image", shape=(3, 2, 1), nullable=False),
    ]
    rows = {
        "age": [10.0, 20.0, None],
        "height": [1.0, 2.0, 4.0],
        "colour": ["red", "green", None],
        "grade": ["a", "b", "a"],
        "x": np.arange(6.0).reshape(3, 2),
        "image": np.stack([picture(3, 2, 1, seed) for seed in range(3)]),
    }
    return fitted(columns, rows).compile()


def one_row(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "age": [12],
        "height": [1.5],
        "colour": ["red"],
        "grade": ["a"],
        "x": [[1.0, 2.0]],
        "image": picture(3, 2, 1)[None],
    }
    return row | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"age": ["abc"]}, "row 0: age must be a number, got 'abc'"),
        ({"age": [-1]}, "row 0: age must be at least 0, got -1.0"),
        ({"age": [151.5]}, "row 0: age must be at most 150, got 151.5"),
        ({"age": [float("inf")]}, "row 0: age must be a finite number, got inf"),
        ({"age": [10**400]}, "row 0: age must be a finite number, got inf"),
        ({"age": [[1]]}, "row 0: age must be a number, got '[1]'"),
        ({"age": 12}, "age must be a list with one value per row, got 12"),
        ({"height": [None]}, "row 0: height must have a value, got none"),
        ({"height": [float("nan")]}, "row 0: height must have a value, got none"),
        ({"height": [1.0, 2.0]}, "all columns must have the same number of values, got 1 in age and 2 in height"),
        ({"height": np.ones((1, 2))}, "height must have one value per row, got an array of shape [1, 2]"),
        ({"colour": [["red"]]}, "row 0: colour must be text, a number or a boolean, got ['red']"),
        ({"colour": ["x" * 1001]}, "row 0: colour must have at most 1000 characters, got 1001"),
        ({"colour": ["\ud800"]}, "row 0: colour must be Unicode text, got half of a surrogate pair in '\\ud800'"),
        ({"colour": "red"}, "colour must be a list with one value per row, got 'red'"),
        ({"grade": ["c"]}, "row 0: grade must be one of a, b, got 'c'"),
        ({"grade": [None]}, "row 0: grade must have a value, got none"),
        ({"x": [[1.0]]}, "x must be numbers of shape [2] per row, got [1]"),
        ({"x": [1.0]}, "x must be numbers of shape [2] per row, got []"),
        ({"x": [[1.0, None]]}, "row 0: x must be [2] finite numbers, got a missing or infinite element"),
        ({"x": [["a", "b"]]}, "x must be numbers of shape [2] per row, got <U1 values"),
        ({"image": picture(4, 2, 1)[None]}, "row 0: image must be 2 x 3 pixels, got 2 x 4"),
        ({"image": [[[256, 0], [0, 0], [0, 0]]]}, "image must be whole numbers from 0 to 255, got int64 values"),
        ({"image": ["%%%"]}, "row 0: image must be an image in base64, got other text"),
        ({"image": [b"GIF89a"]}, "row 0: image must be"),
        ({"image": [None]}, "row 0: image must have a value, got none"),
    ],
)
def test_refuses_with_column_row_and_reason(mixed: CompiledPipeline, changes: dict[str, Any], message: str) -> None:
    """A refusal names the row and the column, says what must be and what was got."""
    with pytest.raises(RequestError) as caught:
        mixed.transform(one_row(**changes))
    assert caught.value.message.startswith(message)


def test_names_the_missing_and_the_unknown_column(mixed: CompiledPipeline) -> None:
    """A column left out is named; an unknown one is named with the nearest known name."""
    row = one_row()
    del row["age"]
    with pytest.raises(RequestError, match="the column 'age' must be given, got none"):
        mixed.transform(row)
    with pytest.raises(RequestError, match="got an unknown 'agee'; did you mean 'age'"):
        mixed.transform(row | {"agee": [1]})
    with pytest.raises(RequestError, match="got an unknown 7"):
        mixed.transform(one_row() | {7: [1]})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "changes",
    [
        {"age": ["12"]},
        {"age": [" 12.0 "]},
        {"age": np.array([12], dtype=np.int8)},
        {"age": np.array([[12.0]])},
        {"age": np.array([12.0], dtype=object)},
        {"age": (12,)},
        {"age": [decimal.Decimal(12)]},
        {"colour": [" red "]},
        {"colour": np.array(["red"])},
        {"colour": np.array([["red"]], dtype=object)},
        {"x": np.array([[1, 2]], dtype=np.int64)},
        {"image": picture(3, 2, 1)[None, :, :, None]},
        {"image": picture(3, 2, 1)[None].astype(np.int64)},
        {"image": [encoded(picture(3, 2, 1))]},
        {"image": [picture(3, 2, 1)]},
    ],
)
def test_takes_equal_values_in_any_container(mixed: CompiledPipeline, changes: dict[str, Any]) -> None:
    """Lists, tuples, arrays of any number type, text numbers and image files give what the plain values give."""
    expected = mixed.transform(one_row())
    for name, array in mixed.transform(one_row(**changes)).items():
        assert array.tobytes() == expected[name].tobytes()


def test_encoded_image_in_base64(mixed: CompiledPipeline) -> None:
    """JSON cannot carry bytes: a text in an image column is base64."""
    import base64

    text = base64.b64encode(encoded(picture(3, 2, 1))).decode()
    expected = mixed.transform(one_row())
    assert mixed.transform(one_row(image=[text]))["image"].tobytes() == expected["image"].tobytes()


def test_no_rows(mixed: CompiledPipeline) -> None:
    """Zero rows are zero rows of output."""
    empty = one_row(age=[], height=[], colour=[], grade=[], x=[], image=[])
    assert {name: array.shape for name, array in mixed.transform(empty).items()} == {
        "features": (0, 10),
        "image": (0, 1, 3, 2),
    }


rubbish = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.builds(lambda: 10**5000)
    | st.builds(object)
    | st.builds(lambda: np.zeros((2, 0))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)


@given(name=st.sampled_from(["age", "height", "colour", "grade", "x", "image"]), values=rubbish)
@settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_rubbish_is_a_request_error(mixed: CompiledPipeline, name: str, values: Any) -> None:
    """Whatever a client puts in a column, it is taken, or refused with a RequestError, and nothing else is raised."""
    for given_values in (values, [values]):
        try:
            outputs = mixed.transform(one_row(**{name: given_values}))
        except RequestError:
            continue
        assert all(np.isfinite(array).all() for array in outputs.values())


class TestMatrix:
    def test_refuses_another_width(self) -> None:
        """A matrix has one column per number column."""
        compiled = fitted([Column("a", "numeric"), Column("b", "numeric")], {"a": [1, 2], "b": [3, 4]}).compile()
        for shape in [(1, 3), (2,), (1, 2, 1)]:
            with pytest.raises(RequestError, match=r"the matrix must have shape \[rows, 2\]"):
                compiled.transform_matrix(np.zeros(shape))
        with pytest.raises(RequestError, match="row 0: a must be a number, got 'x'"):
            compiled.transform_matrix(np.array([["x", "1"]]))
        assert compiled.transform_matrix(np.array([["1", "3"]]))["features"].tolist() == [[-1.0, -1.0]]

    def test_stands_for_a_single_tensor_or_image(self) -> None:
        """Where a tensor or an image is the only column, the array is that column."""
        x = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
        tensor = fitted([Column("x", "tensor", shape=(2, 2), nullable=False)], {"x": x}).compile()
        assert tensor.transform_matrix(x)["tensor"].tobytes() == tensor.transform({"x": x})["tensor"].tobytes()
        pixels = np.stack([picture(3, 2, 1, seed) for seed in range(3)])
        image = fitted([Column("i", "image", shape=(3, 2, 1), nullable=False)], {"i": pixels}).compile()
        assert image.transform_matrix(pixels)["image"].shape == (3, 1, 3, 2)
        vector = fitted([Column("x", "tensor", shape=(4,), nullable=False)], {"x": x.reshape(3, 4)}).compile()
        with pytest.raises(RequestError, match="row 1: x must be"):
            vector.transform_matrix(np.array([[1, 2, 3, 4], [1, np.nan, 3, 4]]))
        with pytest.raises(RequestError, match="x must be numbers of shape"):
            vector.transform_matrix(np.zeros((1, 5)))

    def test_is_refused_where_a_column_is_no_number(self, mixed: CompiledPipeline) -> None:
        """A model with a category column cannot be sent a matrix."""
        with pytest.raises(RequestError, match="colour is categorical; send each column by its name"):
            mixed.transform_matrix(np.zeros((1, 6)))


def test_threads_share_one_compiled_pipeline(mixed: CompiledPipeline) -> None:
    """It keeps no state between calls: threads get what one thread gets."""
    expected = mixed.transform(one_row())["features"].tobytes()
    seen: set[bytes] = set()

    def call() -> None:
        for _ in range(200):
            seen.add(mixed.transform(one_row())["features"].tobytes())

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {expected}


def test_one_row_of_numbers_costs_microseconds() -> None:
    """The promised hot case, about 5 us for a row of 32 numbers, with a tenfold margin for a busy machine."""
    train = np.random.default_rng(0).normal(size=(50, 32))
    names = [f"n{index}" for index in range(32)]
    columns = [Column(name, "numeric") for name in names]
    compiled = fitted(columns, {name: train[:, index] for index, name in enumerate(names)}).compile()
    row = train[:1]
    best_s = min(_seconds_of_100(compiled, row) for _ in range(20)) / 100
    assert best_s < 50e-6


def _seconds_of_100(compiled: CompiledPipeline, row: np.ndarray[Any, Any]) -> float:
    start = time.perf_counter()
    for _ in range(100):
        compiled.transform_matrix(row)
    return time.perf_counter() - start
