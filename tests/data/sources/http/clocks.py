"""Clocks that the tests of this folder move by hand. Not a test itself."""

from __future__ import annotations

from corelane.core.clock import SystemClock


class HandClock(SystemClock):
    """Shows what it was set to. Sleeping moves it, and is written down; the date is that of 2024's first day."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 100.0
        self.slept_s: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds

    def now(self) -> float:
        return 1_704_067_200.0
