"""What a person sees while a network trains: a bar on a terminal, plain lines in a log file, or nothing.

The trainer calls `update` after every step, so it only looks at the time it is given and mostly returns at once.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from corelane.train.record import StepRecord

REDRAW_S = 0.5  # drawing the bar takes about 2 ms of the training's own time: 0.4 %
LINE_S = 10.0


@dataclass(frozen=True)
class Extent:
    """How far a run goes: `total_steps` of `batch_size` rows in `epochs` epochs; `step` of them are done already."""

    title: str
    total_steps: int
    epochs: int
    batch_size: int
    step: int


class TrainingProgress(Protocol):
    """Shows a run. Times are readings of one monotonic clock, in seconds."""

    def start(self, extent: Extent, now: float) -> None:
        """The run begins or goes on."""
        ...

    def update(self, record: StepRecord, /) -> None:
        """A step is done."""
        ...

    def message(self, text: str) -> None:
        """One line to keep: the result of an epoch, a checkpoint set aside."""
        ...

    def close(self) -> None:
        """The run is over, well or not. May be called twice."""
        ...


def make_progress(*, quiet: bool = False, stream: TextIO | None = None) -> TrainingProgress:
    """A bar where `stream` (standard error) is a terminal, plain lines where not, nothing when `quiet`."""
    if quiet:
        return SilentProgress()
    stream = sys.stderr if stream is None else stream
    return BarProgress(Console(file=stream)) if stream.isatty() else LineProgress(stream)


class SilentProgress:
    """Shows nothing."""

    def start(self, *_: object, **__: object) -> None:
        """Nothing is shown."""

    update = message = close = start


class LineProgress:
    """Prints a line every ten seconds, and every message."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._meter = _Meter(LINE_S)

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

    def message(self, text: str) -> None:
        """Print `text`. A pipe whose reader left, or a full disk behind it, costs the line and not the training."""
        with suppress(OSError):
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Everything is printed already."""


class BarProgress:
    """Draws a bar with epoch, loss, rate and time to go, from the training's own thread: no second thread competes."""

    def __init__(self, console: Console) -> None:
        self._meter = _Meter(REDRAW_S)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epoch {task.fields[epoch]}  loss {task.fields[loss]:.4f}  {task.fields[rate]:,.0f} examples/s"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
        )

    def start(self, extent: Extent, now: float) -> None:
        """Draw the bar."""
        self._meter.start(extent, now)
        self._task = self._bar.add_task(
            extent.title, total=extent.total_steps, completed=extent.step, epoch=1, loss=float("nan"), rate=0.0
        )
        self._bar.start()

    def update(self, record: StepRecord, /) -> None:
        """Draw again when the last drawing is old enough."""
        if record.time >= self._meter.due or record.step == self._meter.extent.total_steps:
            rate = self._meter.rate(record.step, record.time)
            self._bar.update(
                self._task, completed=record.step, refresh=True, epoch=record.epoch + 1, loss=record.loss, rate=rate
            )

    def message(self, text: str) -> None:
        """Print `text` above the bar."""
        self._bar.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()


class _Meter:
    """When to show again, and the rate since the last time."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self.due = 0.0

    def start(self, extent: Extent, now: float) -> None:
        self.extent = extent
        self._step, self._time = extent.step, now
        self.due = now + self._interval_s

    def rate(self, step: int, now: float) -> float:
        """Examples per second since the last call; the next one is due an interval later."""
        rate = (step - self._step) * self.extent.batch_size / max(now - self._time, 1e-9)
        self._step, self._time, self.due = step, now, now + self._interval_s
        return rate

    def share(self, step: int) -> float:
        return step / self.extent.total_steps
