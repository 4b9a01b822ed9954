"""From named JSON values to a request's inputs: what both JSON codecs share. It knows the schema, not the protocol."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from corelane.core.errors import RequestError
from corelane.core.types import Array
from corelane.data.schema import Column
from corelane.serve.values import array_of, encoded_images, flat, numbers, pixels, texts


def column_values(column: Column, data: Any, shape: Sequence[int]) -> Array | list[Any]:
    """The n values of a raw column from JSON `data` (nested or flat) of `shape`, whose first axis is n.

    Numeric: float64 [n]; categorical and date: texts or None; tensor: float32 [n, *shape]; array: of its own type
    [n, *shape]; image: uint8 [n, h, w, c], or files from base64 when `shape` is [n]. Raises `RequestError`.
    """
    what = repr(column.name)
    elements = flat(data, shape, what)
    match column.kind:
        case "numeric":
            return numbers(elements, what)
        case "categorical" | "date":
            return texts(elements, what)
        case "tensor":
            return numbers(elements, what, np.float32).reshape(shape)
        case "array":
            return array_of(elements, what, np.dtype(column.dtype)).reshape(shape)
        case "image" if len(shape) == 1:
            return encoded_images(elements, what)
        case "image":
            return pixels(elements, what).reshape(shape)


def check_names(given: Sequence[str], known: Iterable[str], what: str) -> None:
    """Raise `RequestError` unless `given` are exactly `known`, each once; `what` is what one of them is called."""
    names = dict.fromkeys(known)  # looked up once per given name: a list took 91 ms for 5,000 columns
    seen: set[str] = set()
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name[:200], names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(list(names)[:20])}"
            raise RequestError(f"{what} must be one the model knows, got {name[:80]!r}; {hint}")
        if name in seen:
            raise RequestError(f"{what} must be given once, got {name[:80]!r} twice")
        seen.add(name)
    absent = [name for name in names if name not in seen]
    if absent:
        raise RequestError(f"{what} {absent[0]!r} must be given, got none; send null for a missing value")
