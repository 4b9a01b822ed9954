"""The judgement of silence: limits by phase, steps that were long before, work without signs, time we did not see."""

from __future__ import annotations

import math

import pytest

from corelane.core.clock import ManualClock
from corelane.train.heartbeat import PHASES, Beat, Phase
from corelane.train.watchdog import LONGEST_STEPS, PATIENCE, Watchdog


class Watched:
    """A process made of numbers, looked at ten times a second."""

    def __init__(self, timeout_s: float = 5.0) -> None:
        self.clock = ManualClock()
        self.cpu_s = 0.0
        self.cpu_share = 0.0
        self.beats = 0
        self.watchdog = Watchdog(timeout_s, self.clock, lambda: self.cpu_s)

    def look(self, phase: Phase, duration_s: float) -> bool:
        """Time passes without a sign; whether that was called a silence."""
        for _ in range(round(duration_s * 10)):
            self.clock.advance(0.1)
            self.cpu_s += 0.1 * self.cpu_share
            if self.watchdog.is_silent(Beat(phase=phase, beats=self.beats)):
                return True
        return False

    def step(self, duration_s: float) -> None:
        assert not self.look("train", duration_s - 0.1)
        self.beats += 1
        assert not self.look("train", 0.1)


@pytest.mark.parametrize("phase", PHASES)
def test_each_phase_has_its_limit(phase: Phase) -> None:
    """Silence below the limit is none; beyond it, it is."""
    watched = Watched()
    watched.look(phase, 0.1)
    assert not watched.look(phase, 5.0 * PATIENCE[phase] - 0.5)
    assert watched.look(phase, 1.0)


def test_long_steps_are_waited_for() -> None:
    """Where a step took 2 s, ten times that is waited for, though the limit says 5."""
    watched = Watched()
    watched.look("train", 0.1)
    for _ in range(3):
        watched.step(2.0)
    assert not watched.look("train", LONGEST_STEPS * 2.0 - 0.5)
    assert watched.look("train", 1.0)


def test_work_without_signs_is_a_sign() -> None:
    """Preparing may be busy for hours; once it uses no CPU for its limit, it hangs."""
    watched = Watched()
    watched.cpu_share = 0.5
    assert not watched.look("prepare", 500.0)
    watched.cpu_share = 0.0
    assert watched.look("prepare", 2 * 5.0 * PATIENCE["prepare"] + 1.0)


def test_a_step_that_spins_is_a_hang() -> None:
    """Steps are signs enough: CPU time without one is no progress."""
    watched = Watched()
    watched.cpu_share = 1.0
    assert watched.look("train", 6.0)


def test_time_in_which_we_stood_still_does_not_count() -> None:
    """A whole job that was stopped for an hour, we with it, is not taken for a silent trainer."""
    watched = Watched()
    watched.look("train", 0.1)
    watched.clock.advance(3600.0)
    assert not watched.look("train", 3.0)
    assert watched.look("train", 3.0)


def test_an_infinite_limit_never_ends_a_process() -> None:
    """`hang_timeout_s: null`."""
    watched = Watched(math.inf)
    assert not watched.look("train", 1000.0)
    assert not watched.look("prepare", 1000.0)
