"""From JSON values to the arrays and lists a predictor takes, one column at a time, with every type looked at.

NumPy would read the text "1.5" as a number and true as 1; a client that sends those has a bug and is told so. JSON
cannot hold NaN or infinity, so what passes is finite; null is a missing value, and the pipeline says where one may be.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from corelane.core.errors import RequestError
from corelane.core.types import Array

MAX_RANK = 16  # axes of a tensor; images with batch and channel axes have four

INTEGER_TYPES = {
    **{f"INT{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
}
FLOAT_TYPES = {"FP32": np.dtype(np.float32), "FP64": np.dtype(np.float64)}
NUMBER_TYPES = {**INTEGER_TYPES, **FLOAT_TYPES}

_NUMBERS = frozenset({int, float})
_INTEGERS = frozenset({int})
_NULL = type(None)


def short(value: object) -> str:
    """`repr` of a client's value, cut to a length that fits a message."""
    text = repr(value[:64]) if isinstance(value, str | list) else repr(value)
    return text if len(text) <= 64 else text[:61] + "..."


def flat(data: Any, shape: Sequence[int], what: str) -> list[Any]:
    """The elements of `data`, nested as `shape` or already flat, in row-major order. Raises `RequestError`."""
    if type(data) is not list:
        raise RequestError(f"the data of {what} must be a list, got {short(data)}")
    if data and type(data[0]) is list:
        for axis, length in enumerate(shape[:-1]):
            if not all(type(item) is list and len(item) == shape[axis + 1] for item in data) or axis + 2 > len(shape):
                raise RequestError(f"the data of {what} must be nested as its shape {list(shape)}, or flat")
            if axis == 0 and len(data) != length:
                raise RequestError(f"the data of {what} must have {length} rows as its shape says, got {len(data)}")
            data = list(chain.from_iterable(data))
    if len(data) != math.prod(shape):
        raise RequestError(
            f"the data of {what} must have {math.prod(shape)} elements as its shape {list(shape)} says, got {len(data)}"
        )
    return data  # type: ignore[no-any-return]


def numbers(elements: list[Any], what: str, dtype: DTypeLike = np.float64) -> Array:
    """Numbers as an array [n]; null becomes NaN (floats only). Raises `RequestError` naming the first other element."""
    kinds = set(map(type, elements))
    if kinds <= _NUMBERS:
        return np.array(elements, dtype=np.float64) if dtype is np.float64 else _array(elements, what, dtype)
    if kinds <= {*_NUMBERS, _NULL} and np.dtype(dtype).kind == "f":
        return np.array(elements, dtype=dtype)  # NumPy reads None as NaN
    raise _wrong(elements, {*_NUMBERS, _NULL}, what, "numbers, or null for a missing value")


def check_integers(elements: list[Any], what: str, dtype: np.dtype[Any]) -> None:
    """Raise `RequestError` unless every element is null or an integer that `dtype` can hold."""
    if not set(map(type, elements)) <= {*_INTEGERS, _NULL}:
        raise _wrong(elements, {*_INTEGERS, _NULL}, what, f"whole numbers, as its datatype {dtype.name.upper()} says")
    limits = np.iinfo(dtype)
    for element in elements:
        if element is not None and not limits.min <= element <= limits.max:
            raise RequestError(f"{what} must be from {limits.min} to {limits.max}, got {short(element)}")


def texts(elements: list[Any], what: str) -> list[str | None]:
    """Texts as they are; null is a missing value. Raises `RequestError` naming the first other element."""
    if not set(map(type, elements)) <= {str, _NULL}:
        raise _wrong(elements, {str, _NULL}, what, "strings, or null for a missing value")
    return elements


def encoded_images(elements: list[Any], what: str) -> list[bytes]:
    """Image files from base64 texts: JSON has no bytes. Raises `RequestError`."""
    images = []
    for index, element in enumerate(elements):
        try:
            images.append(base64.b64decode(element, validate=True))
        except (TypeError, ValueError, binascii.Error) as error:
            raise RequestError(
                f"{what} must be image files in base64, got {short(element)} at position {index}; encode them"
            ) from error
    return images


def _array(elements: list[Any], what: str, dtype: DTypeLike) -> Array:
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and the output check refuses it
            return np.array(elements, dtype=dtype)
    except (OverflowError, ValueError) as error:
        raise RequestError(f"{what} must be numbers of {np.dtype(dtype).name}, got {error}") from error


def _wrong(elements: list[Any], kinds: set[type], what: str, wanted: str) -> RequestError:
    index, element = next((index, one) for index, one in enumerate(elements) if type(one) not in kinds)
    return RequestError(f"{what} must be {wanted}, got {short(element)} at position {index}")
