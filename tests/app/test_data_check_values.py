"""Columns in words: shares that never lie, dates as dates, bars that show every row."""

from __future__ import annotations

from typing import Any

import pytest

from corelane.app.data_check_values import distinct_text, kind_text, share_text, sparkline, value_text, values_text


def column(**fields: Any) -> dict[str, Any]:
    empty = {"kind": "numeric", "num_rows": 100, "num_missing": 0, "numbers": None, "top": [], "num_other": 0}
    empty["shape"] = []
    return {**empty, "num_distinct": 3, "is_exact": True, **fields}


def numbers(**fields: Any) -> dict[str, Any]:
    return {"minimum": 0.0, "mean": 1.0, "maximum": 2.0, "counts": [1, 0, 8], **fields}


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 10, "–"),
        (1, 100_000, "<0.1 %"),
        (5, 10, "50.0 %"),
        (99_999, 100_000, "99.9 %"),
        (7, 7, "100.0 %"),
        (0, 0, "–"),
    ],
)
def test_shares(part: int, whole: int, text: str) -> None:
    """A few rows are not nothing, and nearly all are not all."""
    assert share_text(part, whole) == text


def test_values() -> None:
    """Numbers with their mean, dates without, categories by their share, safe to print."""
    assert values_text(column(numbers=numbers())) == "0 … 1 … 2"
    assert values_text(column(numbers=numbers(mean=None))) == "0 … 2"
    dates = column(kind="date", numbers=numbers(minimum=0.0, maximum=1704067200.0))
    assert values_text(dates) == "1970-01-01 … 2024-01-01"
    texts = column(kind="categorical", top=[["a\x1b", 60], ["x" * 50, 30], ["c", 8]], num_other=2)
    assert values_text(texts) == f"a\\u001b 60.0 %, {'x' * 19}… 30.0 %, c 8.0 %, …"
    assert values_text(column(kind="tensor")) == ""


def test_dates_at_the_ends_of_the_calendar() -> None:
    """The edge of a bin may lie where no calendar reaches."""
    assert value_text(column(kind="date"), 90061.5) == "1970-01-02 01:01:01"
    assert value_text(column(kind="date"), 1e15).endswith(" s")


def test_kinds() -> None:
    """Tensors and images come with their shape."""
    assert kind_text(column()) == "numeric"
    assert kind_text(column(kind="image", shape=[28, 28, 1])) == "image 28×28×1"


def test_distinct_values() -> None:
    """A plus says that there may be more."""
    assert distinct_text(column(num_distinct=1234)) == "1,234"
    assert distinct_text(column(num_distinct=1234, is_exact=False)) == "1,234+"
    assert distinct_text(column(num_distinct=None)) == "–"


def test_sparklines() -> None:
    """The fullest bin is the highest bar, one row among many is seen, an empty bin is a gap, the width is bounded."""
    assert sparkline(column(numbers=numbers(counts=[1, 0, 100_000]))) == "▁ █"
    assert len(sparkline(column(numbers=numbers(counts=[1] * 30)))) == 15
    assert sparkline(column(top=[["a", 8], ["b", 4]])) == "█▄"
    assert sparkline(column()) == ""
