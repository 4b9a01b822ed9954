"""When a silent trainer is taken for hung. A judgement without a process: `watched.py` feeds it and acts on it.

Steps and evaluated batches are signs of life. In other phases one statement may take minutes (a query, a compiler), so
there the process's CPU time is one too: a process that hangs or was stopped uses none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from corelane.core.clock import Clock
from corelane.train.heartbeat import Beat, Phase

# How many times the configured limit a phase may be silent. Preparing waits for databases and servers, which have
# limits of their own (minutes); a save waits for a disk; a plan may wait for a compiler.
PATIENCE: Final[dict[Phase, float]] = {
    "start": 1.0,
    "prepare": 6.0,
    "plan": 2.0,
    "train": 1.0,
    "evaluate": 1.0,
    "save": 2.0,
    "finish": 2.0,
}
BEATING: Final = frozenset[Phase]({"train", "evaluate"})
LONGEST_STEPS: Final = 10.0  # a step ten times as long as the longest so far is no slow step any more
BUSY_SHARE: Final = 0.01  # of one CPU: watching threads use less, work uses more
STRIDE_S: Final = 1.0  # a longer time between two looks was one in which we did not run ourselves (a stopped job)


class Watchdog:
    """Owns how long one process has been silent and how long its steps took, and nothing else.

    `timeout_s` is the limit while steps are taken (infinite: no limit); `cpu_seconds` reads the CPU time of the process
    and of what it started.
    """

    def __init__(self, timeout_s: float, clock: Clock, cpu_seconds: Callable[[], float]) -> None:
        self._timeout_s = timeout_s
        self._clock = clock
        self._cpu_seconds = cpu_seconds
        self._seen: tuple[int, Phase] = (-1, "start")
        self._longest_s = 0.0
        self._looked_s = clock.monotonic()
        self._note_sign("start")

    def limit_s(self, phase: Phase) -> float:
        """How long the process may be silent in `phase`."""
        if phase == "train":
            return max(self._timeout_s, LONGEST_STEPS * self._longest_s)
        return self._timeout_s * PATIENCE[phase]

    def is_silent(self, beat: Beat) -> bool:
        """Look, a few times a second: whether the process has given no sign for too long."""
        now_s = self._clock.monotonic()
        self._silent_s += min(now_s - self._looked_s, STRIDE_S)
        self._looked_s = now_s
        seen = (beat.beats, beat.phase)
        if seen != self._seen:
            if seen[1] == self._seen[1] == "train":
                self._longest_s = max(self._longest_s, self._silent_s)
            self._seen = seen
            self._note_sign(beat.phase)
        elif self._silent_s >= self.limit_s(beat.phase):
            return not self._has_worked(beat.phase)
        return False

    @property
    def silent_s(self) -> float:
        """Seconds since the last sign of life."""
        return self._silent_s

    def _has_worked(self, phase: Phase) -> bool:
        if phase in BEATING or self._cpu_seconds() - self._cpu_s < BUSY_SHARE * self._silent_s:
            return False
        self._note_sign(phase)
        return True

    def _note_sign(self, phase: Phase) -> None:
        self._silent_s = 0.0
        self._cpu_s = 0.0 if phase in BEATING else self._cpu_seconds()
