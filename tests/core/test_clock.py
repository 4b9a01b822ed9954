"""Clocks: the manual one moves only when told, the system one goes forward."""

from corelane.core.clock import ManualClock, SystemClock


def test_a_manual_clock_advances_by_what_was_slept() -> None:
    """Waiting on a manual clock takes no time and is remembered."""
    clock = ManualClock(10.0)
    clock.sleep(2.5)
    clock.advance(1.0)
    assert clock.now() == clock.monotonic() == 13.5
    assert clock.slept == [2.5]


def test_the_system_clock_never_goes_back() -> None:
    """Durations come from the monotonic reading."""
    clock = SystemClock()
    first = clock.monotonic()
    clock.sleep(0.0)
    assert clock.monotonic() >= first
    assert clock.now() > 1.7e9
