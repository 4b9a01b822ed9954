"""The columns of a data check in words and characters: what both the terminal and the page show of one."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from corelane.core.types import JsonObject
from corelane.observe.drawing.scale import shown
from corelane.observe.text import one_line

MAX_TEXTS = 3  # most frequent texts that are named
MAX_TEXT = 20  # characters of one of them
SPARKLINE_WIDTH = 15

_EIGHTHS = "▁▂▃▄▅▆▇█"
_EPOCH = datetime.datetime(1970, 1, 1)


def kind_text(column: JsonObject) -> str:
    """The kind, with the shape of a tensor or an image."""
    return " ".join([column["kind"], *(["×".join(map(str, column["shape"]))] if column["shape"] else [])])


def missing_text(column: JsonObject) -> str:
    """The share of rows without a value."""
    return share_text(column["num_missing"], column["num_rows"])


def share_text(part: int, whole: int) -> str:
    """`part` of `whole` in percent; what is not nothing never looks like it."""
    if not part or not whole:
        return "–"
    percent = 100 * part / whole
    return "<0.1 %" if percent < 0.1 else f"{percent:.1f} %" if percent < 99.95 or part == whole else "99.9 %"


def distinct_text(column: JsonObject) -> str:
    """How many different values there are; a plus where there may be more."""
    if column["num_distinct"] is None:
        return "–"
    return f"{column['num_distinct']:,}{'' if column['is_exact'] else '+'}"


def values_text(column: JsonObject) -> str:
    """Smallest, mean and largest number, first and last date, or the most frequent texts with their shares."""
    numbers = column["numbers"]
    if numbers is not None:
        low, high = ends_text(column)
        mean = "" if numbers["mean"] is None or column["kind"] == "date" else f"{shown(numbers['mean'])} … "
        return f"{low} … {mean}{high}"
    present = column["num_rows"] - column["num_missing"]
    named = [f"{_cut(one_line(text))} {share_text(count, present)}" for text, count in column["top"][:MAX_TEXTS]]
    return ", ".join(named) + (", …" if column["top"][MAX_TEXTS:] or (named and column["num_other"]) else "")


def ends_text(column: JsonObject) -> tuple[str, str]:
    """The smallest and the largest value."""
    low, high = column["numbers"]["minimum"], column["numbers"]["maximum"]
    return value_text(column, low), value_text(column, high)


def value_text(column: JsonObject, value: float) -> str:
    """A number, or a date without the time of day where that is midnight."""
    if column["kind"] != "date":
        return shown(value)
    try:
        time = (_EPOCH + datetime.timedelta(seconds=value)).isoformat(" ", "seconds")
    except OverflowError:  # the edge of a bin beyond the calendar
        return f"{shown(value)} s"
    return time.removesuffix(" 00:00:00")


def sparkline(column: JsonObject) -> str:
    """The histogram, or the counts of the most frequent texts, as a row of bars; an empty bin is a space."""
    numbers = column["numbers"]
    counts = _joined(numbers["counts"]) if numbers else [count for _, count in column["top"][:SPARKLINE_WIDTH]]
    most = max(counts, default=0)
    return "".join(_EIGHTHS[-(-8 * count // most) - 1] if count else " " for count in counts)


def _joined(counts: Sequence[int]) -> list[int]:
    """Neighbouring bins together, so that at most `SPARKLINE_WIDTH` are left."""
    size = -(-len(counts) // SPARKLINE_WIDTH)
    return [sum(counts[start : start + size]) for start in range(0, len(counts), size)] if size else []


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
