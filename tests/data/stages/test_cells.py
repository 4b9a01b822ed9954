"""Cells as Python values: those that Python cannot hold stand for themselves, beside the others."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from corelane.data.stages.cells import Unheld, python_value, python_values

LARGE = 2**62


@pytest.mark.parametrize(
    ("kind", "ticks"),
    [
        (pa.timestamp("s"), LARGE),
        (pa.timestamp("us"), LARGE),
        (pa.timestamp("us", "UTC"), -LARGE),
        (pa.date64(), LARGE),
        (pa.duration("s"), LARGE),
    ],
)
def test_times_beyond_the_calendar(kind: pa.DataType, ticks: int) -> None:
    """Such a time is told by its ticks and its type; the cells beside it keep their values."""
    cells = pa.array([0, ticks, None], pa.int64()).cast(kind)
    values = python_values(cells)
    assert (values[0], values[2]) == (cells[0].as_py(), None)
    assert isinstance(values[1], Unheld)
    assert repr(values[1]) == f"{ticks} {kind}"
    assert repr(python_value(cells.dictionary_encode()[1])) == repr(values[1])


def test_days_beyond_the_calendar() -> None:
    """Dates that are counted in days have 32 bits of them, more than the calendar."""
    values = python_values(pa.array([0, 2**31 - 1], pa.int32()).cast(pa.date32()))
    assert [str(value) for value in values] == ["1970-01-01", "2147483647 date32[day]"]


def test_text_that_is_no_utf8() -> None:
    """A text whose bytes are no UTF-8, and a list of such times, are told by their type."""
    text = pa.StringArray.from_buffers(1, pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff"))
    assert repr(python_values(text)[0]) == "<a string that cannot be shown>"
    times = pa.array([[LARGE]], pa.list_(pa.int64())).cast(pa.list_(pa.timestamp("s")))
    assert isinstance(python_value(times[0]), Unheld)


@pytest.mark.parametrize("values", [[1, None], ["a", "b"], [[1], None], [b"x"], [True]])
def test_all_others_are_what_arrow_gives(values: list[Any]) -> None:
    """Everything that Python holds is that value."""
    assert python_values(pa.array(values)) == values == [python_value(cell) for cell in pa.array(values)]
