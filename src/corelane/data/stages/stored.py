"""Reading a stage's stored JSON back: arrays of floats, counts and texts, each checked, and `StateError` for what does
not fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from corelane.core.errors import StateError
from corelane.data.stages.affine import Float64Array
from corelane.data.stages.column import shorten


def check_version(data: Mapping[str, Any], version: int) -> None:
    """Raise `StateError` unless `data` was written by version `version` of its stage."""
    if data.get("version") != version:
        raise StateError(
            f"the version of a stored {data.get('stage')!r} stage must be {version}, got {data.get('version')!r}; "
            "use the version of Corelane that wrote it"
        )


def read_floats(data: Mapping[str, Any], key: str, length: int) -> Float64Array:
    """`length` finite numbers under `key` as float64 [length]."""
    stored = data.get(key)
    if not isinstance(stored, list) or len(stored) != length or not all(_is_finite(value) for value in stored):
        raise StateError(f"{key} of a stored stage must be {length} finite numbers, got {shorten(stored)}")
    return np.array(stored, dtype=np.float64)


def read_numbers(data: Mapping[str, Any], key: str) -> Float64Array:
    """Any number of finite numbers under `key` as float64 [n]."""
    stored = data.get(key)
    return read_floats(data, key, len(stored) if isinstance(stored, list) else 0)


def read_indices(data: Mapping[str, Any], key: str, end: int) -> tuple[int, ...]:
    """Distinct whole numbers from 0 to below `end` under `key`."""
    stored = data.get(key)
    if (
        not isinstance(stored, list)
        or not all(type(index) is int and 0 <= index < end for index in stored)
        or len(set(stored)) != len(stored)
    ):
        raise StateError(f"{key} of a stored stage must be distinct places below {end}, got {shorten(stored)}")
    return tuple(stored)


def read_flag(data: Mapping[str, Any], key: str) -> bool:
    """True or false under `key`."""
    stored = data.get(key)
    if not isinstance(stored, bool):
        raise StateError(f"{key} of a stored stage must be true or false, got {shorten(stored)}")
    return stored


def read_texts(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """A list of distinct texts under `key`."""
    stored = data.get(key)
    if (
        not isinstance(stored, list)
        or not all(isinstance(text, str) for text in stored)
        or len(set(stored)) != len(stored)
    ):
        raise StateError(f"{key} of a stored stage must be distinct texts, got {shorten(stored)}")
    return tuple(stored)


def read_choice(data: Mapping[str, Any], key: str, choices: tuple[str, ...]) -> str:
    """One of `choices` under `key`."""
    stored = data.get(key)
    if stored not in choices:
        raise StateError(f"{key} of a stored stage must be one of {', '.join(choices)}, got {shorten(stored)}")
    return str(stored)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
