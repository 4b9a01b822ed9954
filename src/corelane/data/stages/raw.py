"""Python and NumPy values of a request as a raw Arrow column, ready for the schema's check: the long way of serving.

It only changes the container. What the values mean, and whether they are taken, is decided by the casts, for a request
as for a row of training data; what Arrow cannot even hold is refused here with the same kind of reason.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import decimal
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from corelane.core.types import Array
from corelane.data.stages.cast_date import explain_date
from corelane.data.stages.cast_numeric import explain_number
from corelane.data.stages.cast_tensor import tensor_array
from corelane.data.stages.cast_text import CategoryReader, canonical_text, is_unicode
from corelane.data.stages.column import Column, shorten


class RawValuesError(ValueError):
    """Values that no Arrow column can hold, or that cannot be the column's; the message is a whole sentence."""


def raw_column(column: Column, values: Any) -> pa.Array:
    """The values [n] of one column as Arrow. Raises `RawValuesError`."""
    if not isinstance(values, np.ndarray | Sequence) or isinstance(values, str | bytes):
        raise RawValuesError(f"{column.name} must be a list with one value per row, got {shorten(values)}")
    if isinstance(values, np.ndarray) and values.ndim == 0:
        raise RawValuesError(f"{column.name} must be a list with one value per row, got a single value")
    if column.kind == "numeric":
        return _raw_numbers(column, values)
    if column.kind == "categorical":
        return _raw_texts(column, values)
    if column.kind == "date":
        return _raw_dates(column, values)
    if column.kind == "tensor":
        return _raw_tensors(column, values)
    return _raw_images(column, values)


def _raw_numbers(column: Column, values: Any) -> pa.Array:
    if isinstance(values, np.ndarray):
        values = _flat(column, values)
        if values.dtype.kind in "fiub":
            return pa.array(np.ascontiguousarray(values))
        values = values.tolist()
    cells = [_number_or_text(column, row, value) for row, value in enumerate(values)]
    if any(isinstance(cell, str) for cell in cells):
        return pa.array([repr(cell) if isinstance(cell, float) else cell for cell in cells], pa.string())
    return pa.array(cells, pa.float64())


def _number_or_text(column: Column, row: int, value: object) -> float | str | None:
    """A number as float64, infinite when it is beyond; a text as it is."""
    if isinstance(value, int | float | decimal.Decimal | np.bool_ | np.integer | np.floating):
        try:
            return float(value)
        except OverflowError:
            return math.inf
        except ValueError:  # a signalling NaN of the decimal module
            return math.nan
    if value is None or (isinstance(value, str) and is_unicode(value)):
        return value
    if column.unreadable == "missing":
        return None
    raise RawValuesError(f"row {row}: {explain_number(column, shorten(value)).reason}")


def _raw_texts(column: Column, values: Any) -> pa.Array:
    if isinstance(values, np.ndarray):
        values = _flat(column, values).tolist()
    texts: list[str | None] = []
    for row, value in enumerate(values):
        if isinstance(value, str):
            text: str | None = value
        elif value is None or isinstance(value, bool | int | float | decimal.Decimal | datetime.date | np.generic):
            text = _scalar_text(column, row, value)
        else:
            text = None
            _check_may_be_missing(column, row, value)
        if text is not None and not is_unicode(text):
            _check_may_be_missing(column, row, text)
            text = None
        texts.append(text)
    return pa.array(texts, pa.string())


def _check_may_be_missing(column: Column, row: int, value: object) -> None:
    """Raise `RawValuesError` for a value that cannot be a category, unless the column takes it for a missing one."""
    if column.unreadable == "reject":
        raise RawValuesError(f"row {row}: {CategoryReader(column).explain(value).reason}")


def _raw_dates(column: Column, values: Any) -> pa.Array:
    if isinstance(values, np.ndarray):
        values = _flat(column, values)
        if values.dtype.kind == "M":
            return pa.array(values.astype("datetime64[us]"))
        values = values.tolist()
    texts: list[str | None] = []
    for row, value in enumerate(values):
        text = value.isoformat() if isinstance(value, datetime.date) else value
        if text is not None and not (isinstance(text, str) and is_unicode(text)):
            if column.unreadable == "reject":
                raise RawValuesError(f"row {row}: {explain_date(column, shorten(text)).reason}")
            text = None
        texts.append(text)
    return pa.array(texts, pa.string())


def _scalar_text(column: Column, row: int, value: object) -> str | None:
    try:
        return canonical_text(value)
    except (TypeError, ValueError) as error:  # a NumPy scalar of another sort, or a whole number of thousands of digits
        if column.unreadable == "missing":
            return None
        raise RawValuesError(
            f"row {row}: {column.name} must be text, a number or a boolean, got another value"
        ) from error


def _raw_tensors(column: Column, values: Any) -> pa.Array:
    shape = list(column.shape)
    try:
        array = np.asarray(values)
        if array.dtype == object:
            array = np.array(values, dtype=np.float64)  # None becomes NaN, which the cast refuses by row
    except (ValueError, TypeError, OverflowError) as error:
        raise RawValuesError(f"{column.name} must be numbers of shape {shape} per row, got something else") from error
    if array.dtype.kind not in "fiub":
        raise RawValuesError(f"{column.name} must be numbers of shape {shape} per row, got {array.dtype} values")
    if not len(array):
        return tensor_array(np.empty((0, *column.shape), dtype=np.float32 if column.vocabulary is None else np.int64))
    if array.shape[1:] != column.shape:
        raise RawValuesError(f"{column.name} must be numbers of shape {shape} per row, got {list(array.shape[1:])}")
    return tensor_array(array if array.dtype.kind != "b" else array.astype(np.uint8))


def _raw_images(column: Column, values: Any) -> pa.Array:
    if isinstance(values, np.ndarray) and values.dtype != object:
        return _raw_pixels(column, values)
    if not len(values):
        return pa.array([], pa.binary())
    if all(isinstance(value, bytes | str) or value is None for value in values):
        return pa.array([_image_bytes(column, row, value) for row, value in enumerate(values)], pa.binary())
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, OverflowError) as error:
        raise RawValuesError(f"{column.name} must be images of shape {list(column.shape)}, got a mixture") from error
    return _raw_pixels(column, array)


def _image_bytes(column: Column, row: int, value: bytes | str | None) -> bytes | None:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RawValuesError(f"row {row}: {column.name} must be an image in base64, got other text") from error


def _raw_pixels(column: Column, array: Array) -> pa.Array:
    if array.dtype != np.uint8:
        if array.dtype.kind not in "iu" or (array.size and (array.min() < 0 or array.max() > 255)):
            raise RawValuesError(f"{column.name} must be whole numbers from 0 to 255, got {array.dtype} values")
        array = array.astype(np.uint8)
    if array.ndim not in (3, 4) or 0 in array.shape[1:]:
        raise RawValuesError(
            f"{column.name} must be pixels of shape {list(column.shape)} per row, got {list(array.shape[1:])}"
        )
    if not len(array):
        return pa.array([], pa.binary())
    return tensor_array(array)


def _flat(column: Column, values: Array) -> Array:
    """[n] from [n] or [n, 1]."""
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    if values.ndim != 1:
        raise RawValuesError(f"{column.name} must have one value per row, got an array of shape {list(values.shape)}")
    return values
