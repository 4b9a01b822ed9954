"""What a person sees while a network trains: a live display on a terminal, plain lines in a log file, or nothing.

The trainer calls `update` after every step, so it only looks at the time it is given and mostly returns at once. The
live display, and the choice between them, is `live.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TextIO

from corelane.train.record import EpochRecord, StepRecord

LINE_S = 10.0


@dataclass(frozen=True)
class Extent:
    """How far a run goes: `total_steps` of `batch_size` rows in `epochs` epochs; `step` of them are done already.

    `losses` are (step, training loss) of those that are done, as far as they were recorded.
    """

    title: str
    total_steps: int
    epochs: int
    batch_size: int
    step: int
    losses: Iterable[tuple[int, float]] = ()


class TrainingProgress(Protocol):
    """Shows a run. Times are readings of one monotonic clock, in seconds."""

    def start(self, extent: Extent, now: float) -> None:
        """The run begins or goes on."""
        ...

    def update(self, record: StepRecord, /) -> None:
        """A step is done."""
        ...

    def epoch(self, record: EpochRecord, /) -> None:
        """An epoch is done."""
        ...

    def message(self, text: str) -> None:
        """One line to keep: a checkpoint set aside, a step left out."""
        ...

    def close(self) -> None:
        """The run is over, well or not. May be called twice."""
        ...


class SilentProgress:
    """Shows nothing."""

    def start(self, *_: object, **__: object) -> None:
        """Nothing is shown."""

    update = epoch = message = close = start


class LineProgress:
    """Prints a line every ten seconds, and every message."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._meter = Meter(LINE_S)

    def start(self, extent: Extent, now: float) -> None:
        """Print where the run starts."""
        self._meter.start(extent, now)
        at = f", going on after step {extent.step}" if extent.step else ""
        self.message(f"training {extent.title}: {extent.epochs} epochs, {extent.total_steps} steps{at}")

    def update(self, record: StepRecord, /) -> None:
        """Print a line when the last one is old enough."""
        if record.time >= self._meter.due:
            rate = self._meter.rate(record.step, record.time)
            self.message(
                f"epoch {record.epoch + 1}  {self._meter.share(record.step):.0%}  loss {record.loss:.4f}  "
                f"{rate:,.0f} examples/s"
            )

    def epoch(self, record: EpochRecord, /) -> None:
        """Print what it came to."""
        self.message(epoch_text(record))

    def message(self, text: str) -> None:
        """Print `text`. A pipe whose reader left, or a full disk behind it, costs the line and not the training."""
        with suppress(OSError):
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Everything is printed already."""


class Meter:
    """When to show again, and the rate since the last time."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self.due = 0.0

    def start(self, extent: Extent, now: float) -> None:
        """The run begins or goes on."""
        self.extent = extent
        self._step, self._time = extent.step, now
        self.due = now + self._interval_s

    def rate(self, step: int, now: float) -> float:
        """Examples per second since the last call; the next one is due an interval later."""
        rate = (step - self._step) * self.extent.batch_size / max(now - self._time, 1e-9)
        self._step, self._time, self.due = step, now, now + self._interval_s
        return rate

    def share(self, step: int) -> float:
        """The part of the run that is done."""
        return step / self.extent.total_steps


def epoch_text(record: EpochRecord) -> str:
    """The epoch's figures in one line; a star says that it is the best so far."""
    values = "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in record.values.items())
    return f"epoch {record.epoch + 1}/{record.num_epochs} {'*' if record.is_best else ' '} {values}"
