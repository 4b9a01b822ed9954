"""Dates: every way to write one means the same instant, and what is none is refused with its reason."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelane.data.stages.cast_date import cast_date
from corelane.data.stages.column import Column

WHEN = Column("when", "date")


def dates(values: Any, kind: pa.DataType | None = None, column: Column = WHEN) -> tuple[list[Any], list[int]]:
    """The cast column, and the rows it refused."""
    cast = cast_date(column, pa.array(values, kind))
    assert cast.values.type == pa.timestamp("us")
    return cast.values.to_pylist(), [] if cast.bad is None else np.flatnonzero(cast.bad).tolist()


@given(st.datetimes(min_value=datetime.datetime(1, 1, 1), max_value=datetime.datetime(9999, 12, 31, 23, 59, 59)))
def test_texts_read_back(time: datetime.datetime) -> None:
    """Any time written in ISO 8601, alone or beside another form, is that time again."""
    expected = ([time, datetime.datetime(2024, 2, 29)], [])
    assert dates([time.isoformat(), "2024-02-29"]) == expected
    assert dates([time.isoformat(" "), "20240229"]) == expected


def test_zones_are_instants() -> None:
    """A time with a zone is the same instant in UTC, as text and as a typed column."""
    noon = datetime.datetime(2024, 6, 1, 12)
    assert dates(["2024-06-01T14:00:00+02:00", "2024-06-01T12:00:00Z", " 2024-06-01 12:00 "]) == ([noon] * 3, [])
    typed = pa.array([noon.replace(tzinfo=datetime.UTC)], pa.timestamp("ns", "Europe/Berlin"))
    assert dates(typed) == ([noon], [])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_typed_times_and_dates(unit: str) -> None:
    """All units of Arrow, and dates of days."""
    time = datetime.datetime(1969, 12, 31, 23, 59, 59)
    assert dates([time, None], pa.timestamp(unit)) == ([time, None], [])
    day = datetime.date(2024, 2, 29)
    assert dates([day], pa.date32()) == dates([day], pa.date64()) == ([datetime.datetime(2024, 2, 29)], [])


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_times_beyond_the_calendar_are_refused(unit: str) -> None:
    """What overflows microseconds or Python's calendar costs its row, and can be explained."""
    column = pa.array([0, 2**62, -(2**62)], pa.int64()).cast(pa.timestamp(unit))
    cast = cast_date(WHEN, column)
    assert cast.bad is not None
    assert cast.bad.tolist() == [False, True, True]
    assert cast.explain(1).reason.endswith(f"got {2**62} timestamp[{unit}]")


@pytest.mark.parametrize("days", [2**31 - 1, -(2**31)])
def test_days_beyond_the_calendar_are_refused(days: int) -> None:
    """Dates in days may lie beyond it, too."""
    cast = cast_date(WHEN, pa.array([0, days], pa.int32()).cast(pa.date32()))
    assert cast.bad is not None
    assert cast.bad.tolist() == [False, True]
    assert cast.explain(1).reason.endswith(f"got {days} date32[day]")


@pytest.mark.parametrize(
    "text", ["2023-02-29", "0000-01-01", "yesterday", "12:00", "2024-13-01", "5", "2024-02-29T25:00"]
)
def test_what_is_no_date_costs_its_row(text: str) -> None:
    """The other rows stay, and the reason names the column and the text."""
    cast = cast_date(WHEN, pa.array(["2024-02-29", text, None]))
    assert cast.bad is not None
    assert cast.bad.tolist() == [False, True, False]
    assert cast.explain(1).code == "not_a_date"
    assert repr(text) in cast.explain(1).reason


def test_missing_dates() -> None:
    """Null and the usual texts are missing; a column that must have a value refuses them."""
    assert dates([None, "", "NA", "2024-02-29"])[0][:3] == [None] * 3
    assert dates([None, "", "2024-02-29"], column=Column("when", "date", nullable=False))[1] == [0, 1]


def test_numbers_are_no_dates() -> None:
    """A number could be days, seconds or a year: nobody guesses."""
    assert dates([1.5, None])[1] == [0]


def test_what_is_no_date_may_be_missing() -> None:
    """Texts, numbers and times beyond the calendar are missing where the column says so."""
    column = Column("when", "date", unreadable="missing")
    assert dates(["2024-02-29", "yesterday", None], column=column) == ([datetime.datetime(2024, 2, 29), None, None], [])
    assert dates([5.0], column=column) == ([None], [])
