"""Time as an argument: whatever waits or stamps takes a `Clock`, so tests decide what time it is and never sleep."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for stamps, monotonic time for durations, and a way to wait."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    def sleep(self, duration_s: float) -> None:
        """Wait `duration_s` seconds."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds of `time.monotonic`."""
        return time.monotonic()

    def sleep(self, duration_s: float) -> None:
        """Block the calling thread."""
        time.sleep(duration_s)


class ManualClock:
    """A clock that moves only when it is told to; `sleep` advances it at once and is remembered in `slept`."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._time_s = start_s
        self.slept: list[float] = []

    def now(self) -> float:
        """The time set so far, in seconds."""
        return self._time_s

    def monotonic(self) -> float:
        """The time set so far, in seconds."""
        return self._time_s

    def sleep(self, duration_s: float) -> None:
        """Advance by `duration_s` without waiting."""
        self.slept.append(duration_s)
        self.advance(duration_s)

    def advance(self, duration_s: float) -> None:
        """Move time forward by `duration_s` seconds."""
        self._time_s += duration_s
