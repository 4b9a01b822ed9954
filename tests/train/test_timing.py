"""Where the time goes."""

from __future__ import annotations

import pytest

from corelane.core.clock import ManualClock
from corelane.train.timing import PHASES, StopWatch


def test_the_phases_add_up_to_the_whole() -> None:
    """Every second between the start and the last lap is in exactly one phase, those of earlier attempts included."""
    clock = ManualClock(100.0)
    watch = StopWatch(clock)
    clock.advance(50.0)  # before the start: nobody's
    watch.start({"data": 1.0})
    for phase, duration in [("data", 0.5), ("forward", 2.0), ("data", 0.25), ("save", 3.0)]:
        clock.advance(duration)
        watch.lap(phase)
    assert watch.seconds == {**dict.fromkeys(PHASES, 0.0), "data": 1.75, "forward": 2.0, "save": 3.0}
    assert watch.total_s == pytest.approx(6.75)
    assert watch.now == clock.monotonic()
