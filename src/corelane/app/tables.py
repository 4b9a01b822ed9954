"""Answers as text for a terminal: aligned tables, facts one a line, and whatever users wrote made safe to print.

Used by the modules that format a family of answers; it asks nothing and knows no answer.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from corelane.core.types import JsonObject
from corelane.observe.text import one_line

MAX_CELL = 60  # characters


def table_text(header: Sequence[str], rows: Sequence[Sequence[Any]], width: int) -> str:
    """A table of `rows` under `header`, at most `width` characters wide; columns of numbers are right-aligned."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, name in enumerate(header):
        is_number = bool(rows) and all(isinstance(row[index], (int, float, type(None))) for row in rows)
        table.add_column(Text(cell(name)), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row))
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(table)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


def facts_text(facts: JsonObject) -> str:
    """One line a fact; those that are None are left out."""
    present = {name: value for name, value in facts.items() if value is not None}
    return "\n".join(f"{name:<14}{cut(str(value), 4096)}" for name, value in present.items())


def cell(value: Any) -> str:
    """A value for a cell of a table: short, on one line."""
    if value is None:
        return ""
    return cut(f"{value:.6g}" if isinstance(value, float) else str(value), MAX_CELL)


def cut(text: str, limit: int) -> str:
    """`text` on one line of at most `limit` characters."""
    text = one_line(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
