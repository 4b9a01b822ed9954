"""Parts of a date: what each becomes, what stands for a missing one, and that both ways of reading agree."""

from __future__ import annotations

import datetime
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from corelane.core.errors import DataError, StateError
from corelane.core.types import FloatArray
from corelane.data.stages.column import Column
from corelane.data.stages.date import DateStage, FittedDate
from tests.data.examples import batch, transformed

COLUMN = Column("when", "date")
LEAP = datetime.datetime(2024, 2, 29, 18, 45, 30)  # a Thursday
OLD = datetime.datetime(1900, 1, 1)  # a Monday
ALL = ("elapsed", "year", "month", "day", "day_of_year", "weekday", "is_weekend", "hour", "minute")


def fit(*parts: Any, times: Any = (LEAP, None, OLD), cyclic: bool = False, indicator: bool = False) -> FittedDate:
    fitter = DateStage(COLUMN, parts, cyclic, indicator).fitter()
    for time in times:
        fitter.update(rows(time))
    return fitter.finish()


def rows(*times: datetime.datetime | None) -> pa.RecordBatch:
    return batch({"when": pa.array(times, pa.timestamp("us"))})


def parts_of(time: datetime.datetime, *parts: Any, cyclic: bool = False) -> list[float]:
    found: list[float] = transformed(fit(*parts, cyclic=cyclic), rows(time))[0].tolist()
    return found


def test_plain_parts_go_from_0_to_1() -> None:
    """The first of each is 0 and the last 1; a date before 1970 counts in the same calendar."""
    plain = ALL[2:]
    assert parts_of(OLD, *plain) == [0.0] * 7
    np.testing.assert_allclose(
        parts_of(LEAP, *plain), [1 / 11, 28 / 30, 59 / 365, 3 / 6, 0.0, 18 / 23, 45 / 59], rtol=1e-6
    )
    last = datetime.datetime(2023, 12, 31, 23, 59, 59, 999999)  # a Sunday
    np.testing.assert_allclose(parts_of(last, *plain), [1.0, 1.0, 364 / 365, 1.0, 1.0, 1.0, 1.0], rtol=1e-6)


def test_every_day_of_four_centuries_is_the_calendars() -> None:
    """Month, day, day of the year, weekday and year against the standard library, in batches."""
    first = datetime.datetime(1799, 12, 30)
    times = [first + datetime.timedelta(days=days, microseconds=days) for days in range(0, 150_000, 7)]
    found = transformed(fit("month", "day", "day_of_year", "weekday", "year"), rows(*times))
    expected = [
        [(time.month - 1) / 11, (time.day - 1) / 30, (time.timetuple().tm_yday - 1) / 365, time.weekday() / 6]
        for time in times
    ]
    np.testing.assert_allclose(found[:, :4], expected, rtol=1e-6)
    assert np.argsort(found[:, 4], kind="stable").tolist() == list(range(len(times)))


def test_cyclic_parts_meet_at_their_ends() -> None:
    """A point on the unit circle: the step from Sunday to Monday is that from Monday to Tuesday."""
    days = [OLD + datetime.timedelta(days=days) for days in range(8)]
    points = transformed(fit("weekday", cyclic=True), rows(*days))
    np.testing.assert_allclose((points**2).sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(np.diff(points, axis=0), axis=1), 2 * np.sin(np.pi / 7), rtol=1e-6)
    np.testing.assert_allclose(parts_of(LEAP, "hour", cyclic=True), [-1.0, 0.0], atol=1e-6)


def test_elapsed_time_and_year_are_standardised() -> None:
    """Zero mean and unit deviation over the dates of the training part."""
    fitted = fit("elapsed", "year")
    np.testing.assert_allclose(transformed(fitted, rows(OLD, LEAP)), [[-1.0, -1.0], [1.0, 1.0]], rtol=1e-6)
    same = fit("elapsed", times=(LEAP, LEAP))
    assert transformed(same, rows(LEAP)).tolist() == [[0.0]]


def test_missing_dates_are_neutral() -> None:
    """0 where standardised, the middle where plain, the middle of the circle, no weekend; and the indicator says it."""
    assert transformed(fit(*ALL, indicator=True), rows(None)).tolist() == [[0, 0, 0.5, 0.5, 0.5, 0.5, 0, 0.5, 0.5, 1]]
    cyclic = fit("elapsed", "month", "hour", cyclic=True, indicator=True)
    assert transformed(cyclic, rows(None)).tolist() == [[0, 0, 0, 0, 0, 1]]
    assert transformed(cyclic, rows(LEAP))[0, -1] == 0.0


def test_no_date_at_all_cannot_be_fitted() -> None:
    """There is nothing to standardise by."""
    with pytest.raises(DataError, match="when must have a date in at least one training row"):
        fit("elapsed", times=(None,))


@pytest.mark.parametrize("cyclic", [True, False])
def test_json(cyclic: bool) -> None:
    """Everything comes back exactly; unknown parts, other versions and short arrays are refused."""
    fitted = fit(*ALL, cyclic=cyclic, indicator=True)
    stored = json.loads(json.dumps(fitted.to_json()))
    again = FittedDate.from_json(stored, (COLUMN,))
    assert again.to_json() == stored
    assert transformed(again, rows(LEAP, None)).tobytes() == transformed(fitted, rows(LEAP, None)).tobytes()
    broken: list[dict[str, Any]] = [{"version": 0}, {"parts": []}, {"parts": ["second"]}, {"parts": ["day", "day"]}]
    for change in [*broken, {"center": [1.0]}, {"cyclic": 1}, {"indicator": None}]:
        with pytest.raises(StateError):
            FittedDate.from_json(stored | change, (COLUMN,))


class TestFewRows:
    def few(self, *values: Any) -> FloatArray | None:
        return fit(*ALL, cyclic=True).transform_few({"when": list(values)}, len(values))

    def test_ordinary_dates_need_no_long_way(self) -> None:
        """Texts as JSON has them, dates with a time, and None, to the bits of the columns way."""
        found = self.few("2024-02-29T18:45:30", "2024-02-29 18:45:30.0", LEAP, None, "1900-01-01")
        assert found is not None
        assert found.tobytes() == transformed(fit(*ALL, cyclic=True), rows(LEAP, LEAP, LEAP, None, OLD)).tobytes()

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "NA",
            "29.02.2024",
            "2023-02-29",
            "2024-02-29T18:45:30Z",
            " 2024-02-29",
            "2024-W09-4",
            0,
            1.5,
            b"x",
            [LEAP],
        ],
    )
    def test_leaves_the_rest_to_the_columns_way(self, value: Any) -> None:
        """Zones, other formats, days that are none and numbers are looked at by the cast."""
        assert self.few(value) is None

    def test_refuses_other_lengths_and_required_dates(self) -> None:
        """As every stage; and a missing date where one must be."""
        fitted = fit("month")
        assert fitted.transform_few({"when": ["2024-01-01"]}, 2) is None
        assert fitted.transform_few({"when": np.array(["2024-01-01"])}, 1) is None
        required = FittedDate(
            Column("when", "date", nullable=False), ("month",), fitted.affine, is_cyclic=True, indicator=False
        )
        assert required.transform_few({"when": [None]}, 1) is None
