"""Raw cells to tensors: fixed-shape float32, and a verdict on each cell of another shape or with a missing element."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corelane.core.types import Array, BoolArray
from corelane.data.stages.cast_numeric import float64_of, is_number
from corelane.data.stages.cells import python_value
from corelane.data.stages.column import Cast, Column, Verdict, missing, shorten
from corelane.data.stages.tokens import are_tokens


def cast_tensor(column: Column, raw: pa.Array) -> Cast:
    """Cast a raw column [n] of tensors or (nested) lists of numbers to float32 tensors [n, *column.shape], tokens to
    int64.
    """
    elements, fits = dense(raw, column.shape)
    if column.vocabulary is not None:
        return _cast_tokens(column, raw, elements, fits)
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite and is refused below
        values = np.ascontiguousarray(elements, dtype=np.float32).reshape(len(raw), *column.shape)
    finite = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    bad = ~(fits & finite)
    typed = tensor_array(values)
    return Cast(
        typed,
        bad if bad.any() else None,
        lambda row: _explain(column, python_value(raw[row]), fits=bool(fits[row])),
    )


def _cast_tokens(column: Column, raw: pa.Array, elements: Array, fits: BoolArray) -> Cast:
    """Elements [n, length] to int64; a row with one that is no token of the vocabulary is refused."""
    known = are_tokens(elements, column.vocabulary or 0)
    bad = ~(fits & known.all(axis=1))
    tokens = np.where(known, elements, 0).astype(np.int64)

    def explain(row: int) -> Verdict:
        if not fits[row]:
            return _explain(column, python_value(raw[row]), fits=False)
        unknown = elements[row][~known[row]][0]
        return Verdict(
            "out_of_vocabulary",
            f"{column.name} must be whole numbers from 0 to {(column.vocabulary or 0) - 1}, got {unknown:g}",
        )

    return Cast(tensor_array(tokens), bad if bad.any() else None, explain)


def tensor_array(values: Array) -> pa.FixedShapeTensorArray:
    """A C-contiguous array [n, *shape] as an Arrow column of n tensors, without a copy."""
    if len(values):
        plain = np.ascontiguousarray(values).ravel().reshape(values.shape)  # Arrow reads strides of axes of length 1
        return pa.FixedShapeTensorArray.from_numpy_ndarray(plain)
    kind = pa.fixed_shape_tensor(pa.from_numpy_dtype(values.dtype), values.shape[1:])  # Arrow refuses an empty array
    return pa.ExtensionArray.from_storage(kind, pa.array([], kind.storage_type))


def dense(raw: pa.Array, shape: tuple[int, ...]) -> tuple[Array, BoolArray]:
    """The elements of `raw` [n] as an array [n, size] and which rows have `shape` (the others hold zeros).

    A missing element of a row that fits becomes NaN.
    """
    size = math.prod(shape)
    if isinstance(raw.type, pa.FixedShapeTensorType):
        if tuple(raw.type.shape) != shape:
            return np.zeros((len(raw), size), dtype=np.float32), np.zeros(len(raw), dtype=np.bool_)
        return dense(raw.storage, (size,))
    if not shape:
        return _leaf(raw)
    if not is_list(raw.type):
        return np.zeros((len(raw), size), dtype=np.float32), np.zeros(len(raw), dtype=np.bool_)
    fits = pc.fill_null(pc.equal(pc.list_value_length(raw), shape[0]), False).to_numpy(zero_copy_only=False)
    inner, inner_fits = dense(raw.filter(pa.array(fits)).flatten(), shape[1:])
    rows = np.flatnonzero(fits)
    fits[rows] = inner_fits.reshape(len(rows), shape[0]).all(axis=1)
    if len(rows) == len(raw):
        return inner.reshape(len(raw), size), fits
    elements = np.zeros((len(raw), size), dtype=inner.dtype)
    elements[rows] = inner.reshape(len(rows), size)
    return elements, fits


def is_list(kind: pa.DataType) -> bool:
    """Whether Arrow type `kind` is a list of any sort."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _leaf(raw: pa.Array) -> tuple[Array, BoolArray]:
    if not is_number(raw.type) and not pa.types.is_null(raw.type):
        return np.zeros((len(raw), 1), dtype=np.float32), np.zeros(len(raw), dtype=np.bool_)
    return leaf_elements(raw).reshape(len(raw), 1), np.ones(len(raw), dtype=np.bool_)


def leaf_elements(raw: pa.Array) -> Array:
    """Arrow numbers [n] as NumPy's, a missing one as NaN."""
    if pa.types.is_boolean(raw.type) or pa.types.is_decimal(raw.type) or pa.types.is_null(raw.type):
        raw = float64_of(raw)
    if pa.types.is_integer(raw.type) and raw.null_count:
        return _with_gaps(raw)
    elements: Array = raw.to_numpy(zero_copy_only=False)
    return elements


def _with_gaps(raw: pa.Array) -> Array:
    """Whole numbers [n], a missing one as NaN: in the type that holds each of 64 bits beside it."""
    elements: Array = raw.fill_null(0).to_numpy(zero_copy_only=False).astype(np.longdouble)
    elements[~raw.is_valid().to_numpy(zero_copy_only=False)] = np.nan
    return elements


def _explain(column: Column, value: object, *, fits: bool) -> Verdict:
    if value is None:
        return missing(column)
    shape = list(column.shape)
    if fits:
        return Verdict("not_finite", f"{column.name} must be {shape} finite numbers, got a missing or infinite element")
    return Verdict("wrong_shape", f"{column.name} must be numbers of shape {shape}, got {described(value)}")


def described(value: Any) -> str:
    """A cell that is no tensor of the right shape, in words: its shape, or itself."""
    try:
        shape = list(np.shape(value))
    except ValueError:
        return f"lists of unequal lengths {shorten(value)}"
    return f"shape {shape}" if shape else shorten(value)
