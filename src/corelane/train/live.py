"""The progress display of a terminal: a bar, a line of figures, and the curves where they are asked for.

Drawn from the training's own thread: no second thread competes for the processor, and nothing is drawn between two
steps that is not due.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO, cast

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from corelane.machine.process import resident_bytes
from corelane.train.progress import Extent, LineProgress, Meter, SilentProgress, TrainingProgress, epoch_text
from corelane.train.record import EpochRecord, StepRecord
from corelane.train.watching import Curves, NoCurves

REDRAW_S = 0.5  # drawing the bar takes about 2 ms of the training's own time: 0.4 %
REDRAW_CURVES_S = 2.0  # drawing the curves about 8 ms: 0.4 %


def make_progress(*, quiet: bool = False, watch: bool = False, stream: TextIO | None = None) -> TrainingProgress:
    """A display where `stream` (standard error) is a terminal, plain lines where not, nothing when `quiet`.

    With `watch` the display draws the curves too.
    """
    if quiet:
        return SilentProgress()
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        return LineProgress(stream)
    return LiveProgress(
        Console(file=cast("TextIO", _Terminal(stream))),
        curves=Curves() if watch else NoCurves(),
        redraw_s=REDRAW_CURVES_S if watch else REDRAW_S,
        read_memory_bytes=resident_bytes,
    )


class _Terminal:
    """A terminal that may be gone (a session that was closed): that costs what is shown, and not the training."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text`, or nothing."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand over what was written."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class LiveProgress:
    """Draws on `console`; `read_memory_bytes` tells what the process holds, `curves` what is drawn below the bar."""

    def __init__(
        self, console: Console, *, curves: Curves, redraw_s: float, read_memory_bytes: Callable[[], int]
    ) -> None:
        self._console = console
        self._curves = curves
        self._meter = Meter(redraw_s)
        self._read_memory_bytes = read_memory_bytes
        self._bar = Bar(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
        )
        self._live = Live(console=console, auto_refresh=False)

    def start(self, extent: Extent, now: float) -> None:
        """Draw the bar, and what an earlier start of the run has reached."""
        self._meter.start(extent, now)
        self._task = self._bar.add_task(extent.title, total=extent.total_steps, completed=extent.step)
        for step, loss in extent.losses:
            self._curves.training.add(step, loss)
        self._live.start()
        self._live.update(Group(self._bar), refresh=True)

    def update(self, record: StepRecord, /) -> None:
        """Take the step in; draw again when the last drawing is old enough."""
        self._curves.training.add(record.step, record.loss)
        if record.time >= self._meter.due or record.step == self._meter.extent.total_steps:
            self._draw(record)

    def epoch(self, record: EpochRecord, /) -> None:
        """A line above the bar, and a point of the validation curve."""
        if "validation_loss" in record.values:
            self._curves.validation.add(record.step, record.values["validation_loss"])
        self.message(epoch_text(record))

    def message(self, text: str) -> None:
        """Print `text` above the bar."""
        self._console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        """Leave the display as it stands."""
        self._live.stop()

    def _draw(self, record: StepRecord) -> None:
        rate = self._meter.rate(record.step, record.time)
        self._bar.update(self._task, completed=record.step)
        figures = Text(figures_text(record, rate, self._read_memory_bytes()), overflow="ellipsis", no_wrap=True)
        curves = self._curves.draw(width=self._console.width, last_step=record.step)
        self._live.update(Group(self._bar, figures, *([curves] if curves else [])), refresh=True)


def figures_text(record: StepRecord, rate: float, memory_bytes: int) -> str:
    """Epoch, loss, learning rate, gradient norm where it is known, examples/s and memory, in one line."""
    has_norm = record.gradient_norm == record.gradient_norm
    norm = f"  gradient {record.gradient_norm:.3g}" if has_norm else ""
    return (
        f"epoch {record.epoch + 1}  loss {record.loss:.4f}  rate {record.learning_rate:.2e}{norm}  "
        f"{rate:,.0f} examples/s  {memory_bytes / (1 << 20):,.0f} MiB"
    )
