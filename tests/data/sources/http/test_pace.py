"""The deadline and the least rate of a download, on a clock that is moved by hand."""

from __future__ import annotations

import pytest

from corelane.core.errors import DataError, SourceReadError
from corelane.data.config import HTTPConfig
from corelane.data.sources.http.pace import Pace
from tests.data.sources.http.clocks import HandClock


def paced(**config: float) -> tuple[Pace, HandClock]:
    clock = HandClock()
    settings = HTTPConfig(url="https://h/", **{"total_timeout_s": 60.0, "min_bytes_per_s": 10, **config})
    return Pace(settings, clock, "https://h/"), clock


def test_no_wait_outlives_the_deadline() -> None:
    """A timeout is at most what is left, and when nothing is left that is an error."""
    pace, clock = paced()
    assert pace.within(5.0) == 5.0
    clock.now_s += 58.0
    assert pace.within(5.0) == pace.within(None) == pace.left_s() == 2.0
    clock.now_s += 2.0
    with pytest.raises(DataError, match=r"within 60 s, got no end; raise data\.source\.total_timeout_s"):
        pace.within(5.0)


def test_too_few_bytes_over_a_window_are_an_error() -> None:
    """Measured from the first byte of an answer on: what a server takes to begin does not count."""
    pace, clock = paced()
    pace.begin()
    clock.now_s += 30.0
    pace.count(1)
    clock.now_s += 9.0
    pace.count(1)
    clock.now_s += 1.0
    with pytest.raises(SourceReadError, match="at least 10 bytes a second, got 0"):
        pace.count(1)


def test_enough_bytes_are_none_and_every_window_is_its_own() -> None:
    """A fast beginning does not excuse a trickle."""
    pace, clock = paced()
    pace.begin()
    pace.count(1_000_000)
    clock.now_s += 10.0
    pace.count(0)
    clock.now_s += 10.0
    with pytest.raises(SourceReadError):
        pace.count(99)


def test_no_least_rate() -> None:
    """0 asks for none."""
    pace, clock = paced(min_bytes_per_s=0)
    pace.count(0)
    clock.now_s += 20.0
    pace.count(0)
