"""Raw cells as Python values, also those that Python has no value for: a time beyond its calendar, text that is no
UTF-8. Such a cell costs its row and never the pass. It decides nothing; casts, profiles and the quarantine call it.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

_NOT_HELD = (OverflowError, ValueError, pa.ArrowInvalid)


class Unheld:
    """Stands for a cell that Python cannot hold; its text tells which, and no cast takes it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def python_value(cell: pa.Scalar) -> Any:
    """The value of one cell, or `Unheld`."""
    try:
        return cell.as_py()
    except _NOT_HELD:
        return Unheld(_described(cell))


def python_values(cells: pa.Array) -> list[Any]:
    """The values of cells [n], `Unheld` where there is none."""
    try:
        return list(cells.to_pylist())
    except _NOT_HELD:
        return [python_value(cell) for cell in cells]


def _described(cell: pa.Scalar) -> str:
    if isinstance(cell, pa.DictionaryScalar):
        return _described(cell.value)
    if pa.types.is_temporal(cell.type) and not pa.types.is_interval(cell.type):
        return f"{cell.value} {cell.type}"  # since 1970, or how long
    return f"<a {cell.type} that cannot be shown>"
