"""Raw cells to arrays of a stated type, for somebody else's network, and a verdict on each cell that is none.

Where every length is known, the typed column is a fixed-shape tensor (or plain numbers, for a shape without lengths);
where one is free, each row is a struct of its elements and its shape. Booleans are stored as bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corelane.core.errors import DataError
from corelane.core.types import Array, BoolArray, IntArray
from corelane.data.stages.cast_numeric import is_number, is_text, parse_numbers
from corelane.data.stages.cast_tensor import dense, described, is_list, leaf_elements, tensor_array
from corelane.data.stages.cells import python_value
from corelane.data.stages.column import FREE, MAX_ELEMENTS, Cast, Column, Verdict, missing

_DATA, _SHAPE = "data", "shape"


def cast_array(column: Column, raw: pa.Array) -> Cast:
    """Cast a raw column [n] of tensors, (nested) lists or numbers to arrays of `column.dtype`."""
    cast = _cast_free if FREE in column.shape else _cast_fixed
    return cast(column, raw)


def array_column(name: str, raw: pa.Array) -> Column:
    """The array column that raw cells [n] of tensors, lists or numbers are: a length that they do not share is free.

    Numbers with a fraction are float32; numbers in words are read. Raises `DataError` for other cells.
    """
    level, rank = raw, 0
    if is_text(raw.type):
        return Column(name, "array", (), nullable=False, dtype=_dtype_of_text(name, raw))
    if isinstance(raw.type, pa.FixedShapeTensorType):
        level, rank = raw.storage.flatten(), len(raw.type.shape)
    while is_list(level.type):
        level, rank = level.flatten(), rank + 1
    if not is_number(level.type):
        raise DataError(f"{name} must hold numbers, or lists of them, got {level.type}; give other rows")
    dtype = "bool" if pa.types.is_boolean(level.type) else "int64" if pa.types.is_integer(level.type) else "float32"
    lengths, fits = _lengths(raw, rank)
    lengths = lengths[fits]
    if not len(lengths):
        raise DataError(f"{name} must have a row that is a whole tensor, got none; give other rows")
    shape = tuple(FREE if (axis != axis[0]).any() else int(axis[0]) for axis in lengths.T)
    return Column(name, "array", shape, nullable=False, dtype=dtype)


def _dtype_of_text(name: str, raw: pa.Array) -> str:
    numbers = parse_numbers(raw)[0].to_numpy(zero_copy_only=False)
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        raise DataError(f"{name} must hold numbers, or lists of them, got words; give other rows")
    has_fraction = pc.any(pc.match_substring_regex(raw.cast(pa.string()), r"[.eE]")).as_py()
    return "float32" if has_fraction or (numbers != np.floor(numbers)).any() else "int64"


def arrays_of(typed: pa.Array, column: Column) -> Array:
    """The rows of a typed column as one array [n, *shape] of `column.dtype`.

    Raises `ValueError` when lengths that are free differ between the rows.
    """
    values: Array
    if isinstance(typed.type, pa.FixedShapeTensorType):
        values = typed.to_numpy_ndarray() if len(typed) else np.empty((0, *typed.type.shape))
    elif pa.types.is_struct(typed.type):
        values = free_arrays(typed)
    else:
        values = typed.to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values, dtype=column.dtype)


def free_arrays(typed: pa.Array) -> Array:
    """The rows of a typed column with free lengths as one array [n, *lengths].

    Raises `ValueError` when the lengths differ between the rows.
    """
    lengths = row_lengths(typed)
    if (lengths != lengths[:1]).any():
        raise ValueError("rows of different shapes")
    shape = lengths[0].tolist() if len(typed) else [1] * lengths.shape[1]
    values: Array = typed.field(_DATA).flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(typed), *shape)


def row_lengths(typed: pa.Array) -> IntArray:
    """The lengths int64 [n, rank] of the rows of a typed column with free lengths."""
    lengths: IntArray = typed.field(_SHAPE).flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths.reshape(len(typed), typed.field(_SHAPE).type.list_size)


def as_dtype(values: Array, dtype: np.dtype[Any]) -> tuple[Array, BoolArray]:
    """`values` of any number type as `dtype`, and which of them it can hold: whole numbers exactly, others finite.

    What it cannot hold is 0, or not finite.
    """
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            typed = values.astype(dtype)
        return typed, np.asarray(np.isfinite(typed))
    if values.dtype == dtype:
        return values, np.ones(values.shape, dtype=np.bool_)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    held = (values >= low) & (values < float(high) + 1.0 if values.dtype.kind == "f" else values <= high)
    if values.dtype.kind == "f":
        held &= values == np.floor(values)
    return np.where(held, values, 0).astype(dtype), np.asarray(held)


def _cast_fixed(column: Column, raw: pa.Array) -> Cast:
    numbers = parse_numbers(raw)[0] if not column.shape and is_text(raw.type) else raw
    elements, fits = dense(numbers, column.shape)
    values, held = as_dtype(elements, np.dtype(column.dtype))
    bad = ~(fits & held.all(axis=1))
    stored = _stored(values).reshape(len(raw), *column.shape)
    typed = tensor_array(stored) if column.shape else pa.array(stored)
    return Cast(
        typed,
        bad if bad.any() else None,
        lambda row: _explain(column, python_value(raw[row]), fits=bool(fits[row])),
    )


def _cast_free(column: Column, raw: pa.Array) -> Cast:
    lengths, fits = _lengths(raw, len(column.shape))
    for axis, length in enumerate(column.shape):
        fits &= (lengths[:, axis] == length) if length != FREE else (lengths[:, axis] > 0)
    fits &= np.prod(lengths.astype(np.float64), axis=1) <= MAX_ELEMENTS
    lengths[~fits] = 0
    sizes = lengths.prod(axis=1)
    values, held = as_dtype(_elements(raw.filter(pa.array(fits)), len(column.shape)), np.dtype(column.dtype))
    bad = ~fits
    bad[np.repeat(np.arange(len(raw)), sizes)[~held]] = True
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    rank = len(column.shape)
    typed = pa.StructArray.from_arrays(
        [
            pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(_stored(values))),
            pa.FixedSizeListArray.from_arrays(pa.array(lengths.reshape(-1).astype(np.int32)), rank),
        ],
        names=[_DATA, _SHAPE],
    )
    return Cast(
        typed,
        bad if bad.any() else None,
        lambda row: _explain(column, python_value(raw[row]), fits=bool(fits[row])),
    )


def _stored(values: Array) -> Array:
    return values.astype(np.uint8) if values.dtype.kind == "b" else values


def _lengths(raw: pa.Array, rank: int) -> tuple[IntArray, BoolArray]:
    """The lengths [n, rank] of each row, and which rows have that rank and one length along each axis."""
    num_rows = len(raw)
    lengths = np.zeros((num_rows, rank), dtype=np.int64)
    if isinstance(raw.type, pa.FixedShapeTensorType):
        fits = raw.storage.is_valid().to_numpy(zero_copy_only=False).copy()
        if len(raw.type.shape) != rank:
            return lengths, np.zeros(num_rows, dtype=np.bool_)
        lengths[:] = raw.type.shape
        return lengths, fits
    fits = np.ones(num_rows, dtype=np.bool_)
    owner = np.arange(num_rows)
    level = raw
    for axis in range(rank):
        if not is_list(level.type):
            return lengths, np.zeros(num_rows, dtype=np.bool_)
        sizes = pc.fill_null(pc.list_value_length(level), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        lengths[owner, axis] = sizes
        fits[owner[(sizes != lengths[owner, axis]) | ~level.is_valid().to_numpy(zero_copy_only=False)]] = False
        level, owner = level.flatten(), np.repeat(owner, sizes)
    return lengths, fits & bool(is_number(level.type) or pa.types.is_null(level.type))


def _elements(raw: pa.Array, rank: int) -> Array:
    """All elements of rows that fit, row after row."""
    if isinstance(raw.type, pa.FixedShapeTensorType):
        raw, rank = raw.storage, 1
    for _ in range(rank):
        raw = raw.flatten() if is_list(raw.type) else raw
    return leaf_elements(raw) if is_number(raw.type) else np.zeros(0)


def _explain(column: Column, value: object, *, fits: bool) -> Verdict:
    if value is None:
        return missing(column)
    wanted = f"{column.dtype} of shape {list(column.shape)}"
    if fits:
        return Verdict("not_held", f"{column.name} must be {wanted}, got an element that is missing or no such number")
    return Verdict("wrong_shape", f"{column.name} must be {wanted}, got {described(value)}")
