"""Cells to arrays of a stated type: what fits is taken exactly, what does not is refused with its reason."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from corelane.core.errors import DataError
from corelane.data.schema import Column
from corelane.data.stages.cast_array import array_column, arrays_of, as_dtype, cast_array, row_lengths
from corelane.data.stages.cast_tensor import tensor_array


def column(shape: tuple[int, ...], dtype: str = "float32") -> Column:
    return Column("x", "array", shape, nullable=False, dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "values", "held"),
    [
        ("int8", [127, 128, -128, -129], [True, False, True, False]),
        ("int64", [1.0, 1.5, 2.0**63, np.nan, -(2.0**63)], [True, False, False, False, True]),
        ("uint64", [-1, 0, 1], [False, True, True]),
        ("bool", [0, 1, 2], [True, True, False]),
        ("float32", [1.0, 1e300, np.inf, np.nan], [True, False, False, False]),
    ],
)
def test_each_type_holds_what_it_can(dtype: str, values: list[float], held: list[bool]) -> None:
    """Whole numbers exactly, others finite."""
    typed, found = as_dtype(np.array(values), np.dtype(dtype))
    assert found.tolist() == held
    assert typed.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(typed[found], np.array(values)[found].astype(dtype))


@pytest.mark.parametrize("dtype", ["bool", "int32", "float64"])
@pytest.mark.parametrize("shape", [(), (2,), (2, 2)])
def test_known_lengths(dtype: str, shape: tuple[int, ...]) -> None:
    """From nested lists and from tensors alike; plain numbers for a shape without lengths."""
    values = np.arange(2 * np.prod(shape, dtype=int)).reshape(2, *shape) % 2
    given: list[Any] = [pa.array(values.tolist())]
    given += [tensor_array(values)] if shape else [pa.array(["0", "1"])]
    for raw in given:
        cast = cast_array(column(shape, dtype), raw)
        assert cast.bad is None
        got = arrays_of(cast.values, column(shape, dtype))
        assert got.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(got, values)


def test_free_lengths_keep_each_rows_shape() -> None:
    """Rows of one length are one array; the lengths say which are."""
    raw = pa.array([[[1, 2], [3, 4]], [[5, 6]], None, [[7, 8], [9]], [[10, None]], [], [[11, 12], [13, 14]]])
    cast = cast_array(column((-1, 2), "int64"), raw)
    assert cast.bad is not None
    assert cast.bad.tolist() == [False, False, True, True, True, True, False]
    assert row_lengths(cast.values)[[0, 1, 6]].tolist() == [[2, 2], [1, 2], [2, 2]]
    alike = cast.values.take(pa.array([0, 6]))
    np.testing.assert_array_equal(arrays_of(alike, column((-1, 2), "int64")), [[[1, 2], [3, 4]], [[11, 12], [13, 14]]])
    with pytest.raises(ValueError, match="different shapes"):
        arrays_of(cast.values.take(pa.array([0, 1])), column((-1, 2), "int64"))


@pytest.mark.parametrize(
    ("shape", "dtype", "cell", "code", "words"),
    [
        ((2,), "float32", [1.0], "wrong_shape", r"must be float32 of shape \[2\], got shape \[1\]"),
        ((-1,), "int64", None, "missing", "must have a value"),
        ((-1,), "int64", [1.5], "not_held", "no such number"),
        ((-1,), "int64", [[1]], "wrong_shape", r"got shape \[1, 1\]"),
        ((-1, 2), "int64", [[1, 2], [3]], "wrong_shape", "lists of unequal lengths"),
        ((2,), "uint8", [1, 256], "not_held", "no such number"),
        ((), "int64", "many", "not_held", "missing or no such number"),
    ],
)
def test_a_refused_cell_says_why(shape: tuple[int, ...], dtype: str, cell: Any, code: str, words: str) -> None:
    """What must be, what was got."""
    cast = cast_array(column(shape, dtype), pa.array([cell]))
    assert cast.bad is not None
    verdict = cast.explain(0)
    assert verdict.code == code
    assert re.search(words, verdict.reason), verdict.reason


def test_a_tensor_of_another_rank_is_refused() -> None:
    """So is one of another length where that is known."""
    raw = tensor_array(np.zeros((3, 4), dtype=np.float32))
    for shape in ((-1, 4), (5, -1), (3,)):
        assert cast_array(column(shape), raw).bad is not None
    cast = cast_array(column((-1,)), raw)
    assert cast.bad is None
    assert arrays_of(cast.values, column((-1,))).shape == (3, 4)


def test_the_column_that_cells_are() -> None:
    """Lengths that differ are free; fractions are float32, whole numbers int64."""
    assert array_column("x", pa.array([[1, 2], [3]])) == column((-1,), "int64")
    assert array_column("x", pa.array([[[1.5, 2]], [[3, 4]]])) == column((1, 2), "float32")
    assert array_column("x", pa.array([True, False])) == column((), "bool")
    assert array_column("x", tensor_array(np.zeros((2, 3, 4)))) == column((3, 4), "float32")
    with pytest.raises(DataError, match="must hold numbers"):
        array_column("x", pa.array(["a"]))
    with pytest.raises(DataError, match="whole tensor"):
        array_column("x", pa.array([None, None], pa.list_(pa.int64())))
