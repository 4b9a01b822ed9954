"""Where the time of a run goes. A lap costs 0.2 us, five a step: too little to sample, so every step is timed."""

from __future__ import annotations

from collections.abc import Mapping

from corelane.core.clock import Clock

STEP_PHASES = ("forward", "backward", "optimiser")
"""What a step is for; a compiled step may have all of it in one of them."""

PHASES = ("data", *STEP_PHASES, "evaluate", "save", "other")


class StopWatch:
    """Adds the time since the last lap to the phase that just ended, so that the phases sum to the whole."""

    def __init__(self, clock: Clock) -> None:
        self._monotonic = clock.monotonic
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.now = self._monotonic()

    def start(self, seconds: Mapping[str, float]) -> None:
        """Begin now, going on from `seconds` of earlier attempts of the same run."""
        self.seconds.update(seconds)
        self.now = self._monotonic()

    def lap(self, phase: str) -> None:
        """Phase `phase` ends here; `now` is the clock's reading, in seconds."""
        now = self._monotonic()
        self.seconds[phase] += now - self.now
        self.now = now

    @property
    def total_s(self) -> float:
        """All phases together."""
        return sum(self.seconds.values())
