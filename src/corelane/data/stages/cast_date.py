"""Raw cells to dates: timestamp[us] in UTC without a zone, null for missing, and a verdict on what is no date.

Texts are ISO 8601 (`2024-02-29`, `2024-02-29 12:30:00`, with or without a zone); plain ones are parsed by Arrow, the
others one by one. A time with a zone is taken as its instant in UTC, one without as it stands. Years go from 1 to 9999.
"""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corelane.core.types import BoolArray, IntArray
from corelane.data.stages.cast_numeric import MISSING_TEXTS, is_text
from corelane.data.stages.cells import python_value
from corelane.data.stages.column import Cast, Column, Verdict, missing, shorten

PLAIN_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?$"
KIND = pa.timestamp("us")

_DAY_US = 86_400_000_000
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_EPOCH = datetime.datetime(1970, 1, 1)
_FIRST_US = (datetime.datetime.min - _EPOCH) // datetime.timedelta(microseconds=1)
_LAST_US = (datetime.datetime.max - _EPOCH) // datetime.timedelta(microseconds=1)
_MISSING = pa.array(sorted(MISSING_TEXTS))


def cast_date(column: Column, raw: pa.Array) -> Cast:
    """Cast a raw column [n] of times, dates or texts to timestamp[us] [n], null where missing."""
    if pa.types.is_dictionary(raw.type):
        raw = raw.dictionary_decode()
    if is_text(raw.type):
        values, absent, unread = _from_texts(raw)
    elif pa.types.is_timestamp(raw.type) or pa.types.is_date(raw.type):
        values, absent, unread = _from_times(raw)
    else:
        values = np.zeros(len(raw), dtype=np.int64)
        absent = raw.is_null().to_numpy(zero_copy_only=False)
        unread = ~absent
    if column.unreadable == "missing":
        absent, unread = absent | unread, np.zeros(len(raw), dtype=np.bool_)
    bad = unread | absent if not column.nullable else unread
    typed = pa.array(values, pa.int64(), mask=absent | unread).cast(KIND)
    return Cast(typed, bad if bad.any() else None, lambda row: explain_date(column, python_value(raw[row])))


def explain_date(column: Column, value: object) -> Verdict:
    """Why `value` is no date this column takes; for refused cells only."""
    if value is None or (isinstance(value, str) and value.strip() in MISSING_TEXTS):
        return missing(column)
    return Verdict(
        "not_a_date", f"{column.name} must be a date such as 2024-02-29 or 2024-02-29T12:30:00, got {shorten(value)}"
    )


def looks_like_dates(texts: pa.Array) -> int:
    """How many of the trimmed texts [n], none of them missing, are written as plain dates."""
    return int(pc.sum(pc.match_substring_regex(texts, PLAIN_PATTERN)).as_py() or 0)


def _from_times(raw: pa.Array) -> tuple[IntArray, BoolArray, BoolArray]:
    absent = raw.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_date(raw.type):
        days = raw.cast(pa.date32()).cast(pa.int32()).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        return _within(days, absent, 1, _DAY_US)
    ticks = raw.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    per_second = _PER_SECOND[raw.type.unit]
    return _within(ticks, absent, max(per_second // 1_000_000, 1), max(1_000_000 // per_second, 1))


def _within(ticks: IntArray, absent: BoolArray, divisor: int, factor: int) -> tuple[IntArray, BoolArray, BoolArray]:
    """Ticks as microseconds, and which of them lie outside the years 1 to 9999 (they would overflow)."""
    whole = ticks // divisor
    outside = (whole < _FIRST_US // factor) | (whole > _LAST_US // factor)
    return np.where(outside, 0, whole) * factor, absent, outside & ~absent


def _from_texts(raw: pa.Array) -> tuple[IntArray, BoolArray, BoolArray]:
    trimmed = pc.utf8_trim_whitespace(raw.cast(pa.string()))
    present = pc.if_else(pc.is_in(trimmed, value_set=_MISSING), pa.scalar(None, pa.string()), trimmed)
    absent = present.is_null().to_numpy(zero_copy_only=False)
    if looks_like_dates(present) == len(present) - present.null_count:
        try:
            times = present.cast(KIND)
        except pa.ArrowInvalid:  # a day that its month does not have: find out which
            return _one_by_one(present, absent)
        values = times.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        return values, absent, (values < _FIRST_US) & ~absent  # Arrow knows a year 0, the calendar does not
    return _one_by_one(present, absent)


def _one_by_one(present: pa.Array, absent: BoolArray) -> tuple[IntArray, BoolArray, BoolArray]:
    values = np.zeros(len(present), dtype=np.int64)
    unread = np.zeros(len(present), dtype=np.bool_)
    for row, text in enumerate(present.to_pylist()):
        if text is not None:
            found = _parse(text)
            values[row], unread[row] = (0, True) if found is None else (found, False)
    return values, absent, unread


def _parse(text: str) -> int | None:
    try:
        time = datetime.datetime.fromisoformat(text)
        if time.tzinfo is not None:
            time = time.astimezone(datetime.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None
    return (time - _EPOCH) // datetime.timedelta(microseconds=1)
