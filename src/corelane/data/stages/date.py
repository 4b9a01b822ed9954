"""One date column: its parts as numbers of moderate size, those that repeat as a point on a circle.

In: timestamp[us] without a zone, null = missing. Out: float32 [n, k], the parts in the order asked for. The arithmetic
is on whole microseconds since 1970 in the proleptic Gregorian calendar (that of datetime64), the same in both ways.

| Part | Plain | Cyclic |
|---|---|---|
| elapsed (seconds), year | standardised over the training part | the same |
| month, day, day_of_year, weekday (from Monday), hour, minute | first to last as 0..1 | sine, cosine of the turn |
| is_weekend | 0 or 1 | the same |

A missing date is 0 in standardised parts, the middle of plain ones (0.5), the middle of the circle (0, 0), and no
weekend; with an indicator, a last feature is 1 for it.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import pyarrow as pa

from corelane.core.errors import DataError, StateError
from corelane.core.types import BoolArray, FloatArray, IntArray, JsonObject
from corelane.data.stages.affine import Affine, Float64Array
from corelane.data.stages.column import Column, shorten
from corelane.data.stages.moments import Moments
from corelane.data.stages.stored import check_version, read_flag, read_floats, read_texts

DatePart: TypeAlias = Literal[
    "elapsed", "year", "month", "day", "day_of_year", "weekday", "is_weekend", "hour", "minute"
]

_VERSION = 1
_STANDARDISED = ("elapsed", "year")
_NUM_VALUES: dict[DatePart, int] = {"month": 12, "day": 31, "day_of_year": 366, "weekday": 7, "hour": 24, "minute": 60}
"""How many values a part that repeats has."""

_DAY_US = 86_400_000_000
_HOUR_US = 3_600_000_000
_MINUTE_US = 60_000_000
_THURSDAY = 3  # the weekday of 1970-01-01, Monday being 0
_EPOCH = datetime.datetime(1970, 1, 1)
_MICROSECOND = datetime.timedelta(microseconds=1)
_PLAIN_TEXT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class DateStage:
    """A date column before training data was seen."""

    column: Column
    parts: tuple[DatePart, ...]
    is_cyclic: bool = True
    has_indicator: bool = False

    @property
    def columns(self) -> tuple[Column, ...]:
        """The one column it reads."""
        return (self.column,)

    def to_json(self) -> JsonObject:
        """What decides the fit besides the data."""
        return {
            "stage": "date",
            "version": _VERSION,
            "columns": [self.column.name],
            "parts": list(self.parts),
            "cyclic": self.is_cyclic,
            "indicator": self.has_indicator,
        }

    def fitter(self) -> DateFitter:
        """A fresh fitter."""
        return DateFitter(self)


class DateFitter:
    """Owns the running statistics of the elapsed seconds and the year, and nothing else."""

    def __init__(self, stage: DateStage) -> None:
        self._stage = stage
        self._moments = Moments(len(_STANDARDISED))

    def update(self, rows: pa.RecordBatch) -> None:
        """Take one batch of checked rows."""
        times, absent = _read_column(rows.column(self._stage.column.name))
        values = np.stack([_standardised(part, times) for part in _STANDARDISED])
        values[:, absent] = np.nan
        self._moments.update(values.T)

    def finish(self) -> FittedDate:
        """The fitted column. Raises `DataError` when no training row has a date."""
        stage = self._stage
        if not self._moments.count.all():
            raise DataError(
                f"{stage.column.name} must have a date in at least one training row, got none; "
                "exclude it (data.exclude)"
            )
        spread = self._moments.deviation
        affine = Affine(self._moments.mean, np.where(spread > 0.0, 1.0 / np.where(spread > 0.0, spread, 1.0), 1.0))
        return FittedDate(stage.column, stage.parts, affine, is_cyclic=stage.is_cyclic, indicator=stage.has_indicator)


class FittedDate:
    """A date column that knows its parts, and the `affine` scaling of elapsed seconds and year; frozen."""

    def __init__(
        self, column: Column, parts: tuple[DatePart, ...], affine: Affine, *, is_cyclic: bool, indicator: bool
    ) -> None:
        self.columns = (column,)
        self.parts = parts
        self.affine = affine
        self.is_cyclic = is_cyclic
        self.has_indicator = indicator
        self._name = column.name
        self._is_bounded = column.minimum is not None or column.maximum is not None
        self._tables = {part: _table(part, is_cyclic=is_cyclic) for part in parts if part not in _STANDARDISED}
        self._widths = [self._tables[part].shape[1] if part in self._tables else 1 for part in parts]
        self.shape = (sum(self._widths) + indicator,)

    def transform_into(self, rows: pa.RecordBatch, out: FloatArray) -> None:
        """The columns way: checked rows into float32 [n, k]."""
        self._write(*_read_column(rows.column(self._name)), out)

    def transform_few(self, columns: Mapping[str, Any], num_rows: int) -> FloatArray | None:
        """The compiled way: texts such as 2024-02-29 or 2024-02-29T12:30:00, datetimes without a zone, None; None for
        everything else, and where one is refused.
        """
        (column,) = self.columns
        values = columns[self._name]
        if self._is_bounded or not isinstance(values, Sequence) or len(values) != num_rows:
            return None
        times = np.zeros(num_rows, dtype=np.int64)
        absent = np.zeros(num_rows, dtype=np.bool_)
        for row, value in enumerate(values):
            if value is None and column.nullable:
                absent[row] = True
                continue
            time = _microseconds(value)
            if time is None:
                return None
            times[row] = time
        out = np.empty((num_rows, *self.shape), dtype=np.float32)
        self._write(times, absent, out)
        return out

    def _write(self, times: IntArray, absent: BoolArray, out: FloatArray) -> None:
        """Microseconds since 1970 [n], anything where `absent` [n], to float32 [n, k]."""
        end = 0
        for part, width in zip(self.parts, self._widths, strict=True):
            start, end = end, end + width
            if part in self._tables:
                table = self._tables[part]
                out[:, start:end] = table.take(np.where(absent, len(table) - 1, _place(part, times)), axis=0)
                continue
            place = _STANDARDISED.index(part)
            values = np.where(absent, self.affine.center[place], _standardised(part, times))
            line = Affine(self.affine.center[place : place + 1], self.affine.scale[place : place + 1])
            line.apply_into(values[:, None], None, out[:, start:end])
        if self.has_indicator:
            out[:, end] = absent

    def to_json(self) -> JsonObject:
        """The column as JSON data."""
        return {
            "stage": "date",
            "version": _VERSION,
            "columns": [self._name],
            "parts": list(self.parts),
            "cyclic": self.is_cyclic,
            "indicator": self.has_indicator,
            "center": self.affine.center.tolist(),
            "scale": self.affine.scale.tolist(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], columns: tuple[Column, ...]) -> FittedDate:
        """The column written by `to_json`, of `columns`. Raises `StateError` for another version or a broken field."""
        check_version(data, _VERSION)
        (column,) = columns
        parts = read_texts(data, "parts")
        if not parts or not set(parts) <= set(get_args(DatePart)):
            raise StateError(f"parts of a stored stage must be some of a date's, got {shorten(list(parts))}")
        center, scale = (read_floats(data, key, len(_STANDARDISED)) for key in ("center", "scale"))
        return cls(
            column,
            cast(tuple[DatePart, ...], parts),
            Affine(center, scale),
            is_cyclic=read_flag(data, "cyclic"),
            indicator=read_flag(data, "indicator"),
        )


def _table(part: DatePart, *, is_cyclic: bool) -> FloatArray:
    """What each value of a part becomes: float32 [values + 1, width], the last for a missing date.

    A table, so that no sine is ever computed twice in two ways.
    """
    if part == "is_weekend":
        return np.array([[0.0], [1.0], [0.0]], dtype=np.float32)
    num_values = _NUM_VALUES[part]
    if not is_cyclic:
        return np.append(np.arange(num_values) / (num_values - 1), 0.5)[:, None].astype(np.float32)
    turn = 2.0 * np.pi * np.arange(num_values) / num_values
    circle = np.stack([np.sin(turn), np.cos(turn)], axis=1)
    return np.concatenate([circle, np.zeros((1, 2))]).astype(np.float32)


def _place(part: DatePart, times: IntArray) -> IntArray:
    """Which of its values a part has at `times` [n], from 0."""
    if part == "hour":
        return times // _HOUR_US % 24
    if part == "minute":
        return times // _MINUTE_US % 60
    days = times // _DAY_US
    if part in ("weekday", "is_weekend"):
        weekday = (days + _THURSDAY) % 7
        return weekday if part == "weekday" else (weekday >= 5).astype(np.int64)
    months = _months(days)
    if part == "month":
        return months % 12
    first_month = months if part == "day" else months - months % 12
    return days - first_month.view("datetime64[M]").astype("datetime64[D]").view(np.int64)


def _standardised(part: str, times: IntArray) -> Float64Array:
    """Seconds since 1970, or the year, at `times` [n]."""
    if part == "elapsed":
        return times / 1e6
    return (_months(times // _DAY_US) // 12 + 1970).astype(np.float64)


def _months(days: IntArray) -> IntArray:
    return days.view("datetime64[D]").astype("datetime64[M]").view(np.int64)


def _read_column(column: pa.Array) -> tuple[IntArray, BoolArray]:
    """A checked column [n] as microseconds since 1970 (0 where missing) and which are missing."""
    absent = column.is_null().to_numpy(zero_copy_only=False)
    return column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False), absent


def _microseconds(value: object) -> int | None:
    """An ordinary date as microseconds since 1970; None for what the cast has to look at."""
    if isinstance(value, str):
        if not _PLAIN_TEXT.fullmatch(value):
            return None
        try:
            value = datetime.datetime.fromisoformat(value)
        except ValueError:
            return None
    if type(value) is datetime.datetime and value.tzinfo is None:
        return (value - _EPOCH) // _MICROSECOND
    return None
