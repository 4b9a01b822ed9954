"""A clock for tests in which the order of events matters and their duration does not."""

from __future__ import annotations

import itertools
import time


class Ticking:
    """A clock on which every look is a second later than the one before; waiting is real."""

    def __init__(self) -> None:
        self._seconds = itertools.count(1_700_000_000)

    def now(self) -> float:
        return float(next(self._seconds))

    def monotonic(self) -> float:
        return float(next(self._seconds))

    def sleep(self, duration_s: float) -> None:
        time.sleep(duration_s)
