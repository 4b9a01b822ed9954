"""A limit on calls that offer none."""

from __future__ import annotations

import math
import time
from contextlib import suppress

import pytest

from corelane.machine import time_limit as time_limit_module
from corelane.machine.time_limit import TimeLimitReached, time_limit

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The exception may arrive in a callback of the collector, where it is lost and told as a warning."""


def spin(duration_s: float) -> None:
    end = time.monotonic() + duration_s
    while time.monotonic() < end:
        pass


def test_what_takes_too_long_is_ended() -> None:
    """The exception arrives soon after the limit, past handlers of `Exception`."""
    began = time.monotonic()
    with pytest.raises(TimeLimitReached), time_limit(0.05), suppress(Exception):
        spin(30.0)
    assert time.monotonic() - began < 10.0


@pytest.mark.parametrize("limit_s", [math.inf, 60.0])
def test_what_is_in_time_is_left_alone(limit_s: float) -> None:
    """Nothing is raised inside or afterwards, and no timer stays."""
    with time_limit(limit_s):
        spin(0.01)
    spin(0.01)


def test_an_error_from_inside_goes_on() -> None:
    """The limit changes no other exception."""
    with pytest.raises(KeyError), time_limit(60.0):
        raise KeyError("mine")


def test_a_limit_that_ends_at_the_last_moment_is_not_late() -> None:
    """Limits about as long as the work: the exception arrives inside or not at all."""
    for _ in range(200):
        try:
            with time_limit(0.001):
                spin(0.001)
        except TimeLimitReached:
            pass
        spin(0.0001)


def test_an_exception_that_gets_lost_is_raised_again() -> None:
    """What swallows the first one, as a callback of the collector does, is left all the same."""
    began = time.monotonic()
    with suppress(TimeLimitReached), time_limit(0.01):
        with suppress(TimeLimitReached):
            spin(20.0)
        spin(20.0)
    assert time.monotonic() < began + 15.0


def test_who_was_left_in_an_unusual_way_is_not_interrupted_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that arrives before the first line of the way out leaves the context open: its caller is gone."""
    monkeypatch.setattr(time_limit_module, "AGAIN_S", 0.01)

    def leave() -> object:
        context = time_limit(0.05)
        context.__enter__()
        return context

    left = leave()
    spin(0.3)
    assert left is not None
