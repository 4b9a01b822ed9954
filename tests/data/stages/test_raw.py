"""Request values to raw Arrow columns: the container changes, the meaning does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from corelane.data.stages.column import Column
from corelane.data.stages.raw import RawValuesError, raw_column

AGE = Column("age", "numeric")
COLOUR = Column("colour", "categorical")
X = Column("x", "tensor", shape=(2,), nullable=False)
IMAGE = Column("image", "image", shape=(2, 3, 1), nullable=False)


def test_numbers_stay_numbers_until_a_text_is_among_them() -> None:
    """Numbers alone are float64; with a text among them all are texts that read back exactly."""
    assert raw_column(AGE, [1, None, True, 2.5]).type == pa.float64()
    assert raw_column(AGE, [0.1, "abc", None]).to_pylist() == ["0.1", "abc", None]
    assert raw_column(AGE, np.array([1, 2], dtype=np.int8)).type == pa.int8()
    assert raw_column(AGE, [10**400]).to_pylist() == [float("inf")]


def test_texts() -> None:
    """Scalars become the text their category has; texts are passed on as they are."""
    assert raw_column(COLOUR, [" red ", 3, True, None]).to_pylist() == [" red ", "3", "true", None]
    assert raw_column(COLOUR, np.array([[1], [2]])).to_pylist() == ["1", "2"]


def test_tensors_and_images() -> None:
    """Arrays and nested lists become Arrow tensors, files become bytes."""
    assert raw_column(X, [[1, 2], [3, None]]).to_numpy_ndarray().shape == (2, 2)
    assert raw_column(IMAGE, np.zeros((2, 2, 3), dtype=np.uint8)).type == pa.fixed_shape_tensor(pa.uint8(), [2, 3])
    assert raw_column(IMAGE, [b"abc", "YWJj"]).to_pylist() == [b"abc", b"abc"]
    assert (
        len(raw_column(X, []))
        == len(raw_column(IMAGE, []))
        == len(raw_column(IMAGE, np.zeros((0, 2, 3), np.uint8)))
        == 0
    )


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        (AGE, 3, "age must be a list with one value per row, got 3"),
        (AGE, "34", "age must be a list with one value per row, got '34'"),
        (AGE, np.array(3), "age must be a list with one value per row, got a single value"),
        (AGE, [1, {}], "row 1: age must be a number, got '{}'"),
        (COLOUR, ["a", [1]], "row 1: colour must be text, a number or a boolean, got [1]"),
        (COLOUR, ["\udfff"], "row 0: colour must be Unicode text"),
        (X, [[1, 2], [3]], "x must be numbers of shape [2] per row, got something else"),
        (X, [[1, 2, 3]], "x must be numbers of shape [2] per row, got [3]"),
        (IMAGE, [[0, 1, 2]], "image must be pixels of shape [2, 3, 1] per row, got [3]"),
        (IMAGE, [[[0, 1, -2], [0, 0, 0]]], "image must be whole numbers from 0 to 255"),
        (IMAGE, [b"x", [[1]]], "image must be images of shape"),
    ],
)
def test_what_arrow_cannot_hold_is_refused(column: Column, values: Any, message: str) -> None:
    """The refusal reads like one of the check's."""
    with pytest.raises(RawValuesError) as caught:
        raw_column(column, values)
    assert str(caught.value).startswith(message)
