"""From JSON values to the arrays and lists a predictor takes, one column at a time, with every type looked at.

NumPy would read the text "1.5" as a number and true as 1; a client that sends those has a bug and is told so. JSON
cannot hold NaN or infinity, so what passes is finite; null is a missing value, and the pipeline says where one may be.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence, Set
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from corelane.core.errors import RequestError
from corelane.core.types import Array
from corelane.web.tensors import FLOAT_TYPES, INTEGER_TYPES

MAX_RANK = 16  # axes of a tensor; images with batch and channel axes have four

NUMBER_TYPES = {**INTEGER_TYPES, **FLOAT_TYPES}

_NUMBERS: frozenset[type] = frozenset({int, float})
_INTEGERS: frozenset[type] = frozenset({int})
_BOOLEANS: frozenset[type] = frozenset({bool})
_NULL: type = type(None)
_NUMBERS_OR_NULL = _NUMBERS | {_NULL}
_INTEGERS_OR_NULL = _INTEGERS | {_NULL}
_TEXTS_OR_NULL: frozenset[type] = frozenset({str, _NULL})


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
    """Numbers as a float array [n]; null becomes NaN. Raises `RequestError` naming the first other element."""
    kinds = set(map(type, elements))
    if not kinds <= _NUMBERS and not kinds <= _NUMBERS_OR_NULL:
        raise _wrong(elements, _NUMBERS_OR_NULL, what, "numbers, or null for a missing value")
    if dtype is np.float64:
        return np.array(elements, dtype=np.float64)  # NumPy reads None as NaN
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and the pipeline refuses it
        return np.array(elements, dtype=dtype)


def array_of(elements: list[Any], what: str, dtype: np.dtype[Any]) -> Array:
    """Elements of a network's own input as `dtype` [n]; none may be missing. Raises `RequestError`."""
    if dtype.kind == "b":
        if not set(map(type, elements)) <= _BOOLEANS:
            raise _wrong(elements, _BOOLEANS, what, "true or false")
    elif not set(map(type, elements)) <= (_NUMBERS if dtype.kind == "f" else _INTEGERS):
        is_float = dtype.kind == "f"
        raise _wrong(elements, _NUMBERS if is_float else _INTEGERS, what, "numbers" if is_float else "whole numbers")
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and the pipeline refuses it
            return np.array(elements, dtype=dtype)
    except OverflowError as error:
        raise RequestError(f"{what} must be whole numbers that {dtype.name} can hold, got {error}") from error


def pixels(elements: list[Any], what: str) -> Array:
    """Whole numbers from 0 to 255 as uint8 [n]. Raises `RequestError` naming the first other element."""
    if not set(map(type, elements)) <= _INTEGERS:
        raise _wrong(elements, _INTEGERS, what, "whole numbers from 0 to 255")
    try:
        return np.array(elements, dtype=np.uint8)
    except OverflowError as error:
        raise RequestError(f"{what} must be whole numbers from 0 to 255, got {error}") from error


def check_integers(elements: list[Any], what: str, dtype: np.dtype[Any]) -> None:
    """Raise `RequestError` unless every element is null or an integer that `dtype` can hold."""
    if not set(map(type, elements)) <= _INTEGERS_OR_NULL:
        raise _wrong(elements, _INTEGERS_OR_NULL, what, f"whole numbers, as its datatype {dtype.name.upper()} says")
    limits = np.iinfo(dtype)
    for element in elements:
        if element is not None and not limits.min <= element <= limits.max:
            raise RequestError(f"{what} must be from {limits.min} to {limits.max}, got {short(element)}")


def texts(elements: list[Any], what: str) -> list[str | None]:
    """Texts as they are; null is a missing value. Raises `RequestError` naming the first other element."""
    if not set(map(type, elements)) <= _TEXTS_OR_NULL:
        raise _wrong(elements, _TEXTS_OR_NULL, what, "strings, or null for a missing value")
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


def _wrong(elements: list[Any], kinds: Set[type], what: str, wanted: str) -> RequestError:
    index, element = next((index, one) for index, one in enumerate(elements) if type(one) not in kinds)
    return RequestError(f"{what} must be {wanted}, got {short(element)} at position {index}")
