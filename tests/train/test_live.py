"""The display of a terminal: the bar, its figures, and the curves of `--watch`."""

from __future__ import annotations

import io
import os
import pty
from io import FileIO, TextIOWrapper

import pytest
from rich.console import Console

from corelane.train.live import LiveProgress, figures_text, make_progress
from corelane.train.progress import Extent
from corelane.train.record import StepRecord
from corelane.train.watching import MAX_POINTS, Curve, Curves, NoCurves
from tests.train.test_progress import drive


def shown(curves: Curves) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None)
    drive(LiveProgress(console, curves=curves, redraw_s=0.5, read_memory_bytes=lambda: 300 << 20))
    return stream.getvalue()


def test_a_terminal_gets_a_bar_and_figures() -> None:
    """The bar ends full; loss, rate, gradient norm, speed and memory stand below it; epochs stand above."""
    text = shown(NoCurves())
    assert "200/200" in text
    assert "epoch 5  loss 0.0050  rate 1.00e-01  gradient 1  150 examples/s  300 MiB" in text
    assert "epoch 2/4 * validation loss 0.5000" in text
    assert "training loss" not in text


def test_watching_draws_both_curves() -> None:
    """With the curves there is a chart of the training loss, and one of the validation loss once there is one."""
    text = shown(Curves())
    before, after = text.split("validation loss 0.5000", 1)
    assert "training loss" in before
    assert "validation loss" in after
    assert any("\u2801" <= sign <= "\u28ff" for sign in text)


def test_a_terminal_that_is_gone_is_no_reason_to_stop() -> None:
    """Its session was closed: writing fails, and the training goes on."""
    master, slave = pty.openpty()
    stream = TextIOWrapper(FileIO(slave, "w"), write_through=True)
    progress = make_progress(stream=stream)
    assert isinstance(progress, LiveProgress)
    os.close(master)
    with pytest.raises(OSError, match="Input/output"):
        stream.write("lost")
    drive(progress)
    stream.close()


def test_an_unknown_norm_is_left_out() -> None:
    """Where gradients are not clipped their length is not measured, and not shown."""
    assert "gradient" not in figures_text(StepRecord(1, 0, 8, 0.5, 0.1, float("nan"), 0.0), 10.0, 0)


def test_a_curve_is_bounded() -> None:
    """However many values: at most so many points, from the first to the last, each the mean of its values."""
    curve = Curve()
    for step in range(100_000):
        curve.add(step, step % 2)
    assert MAX_POINTS / 2 <= len(curve.points) <= MAX_POINTS
    assert [y for _, y in curve.points] == pytest.approx([0.5] * len(curve.points))
    assert curve.points[-1][0] > 99_000


def test_a_step_that_was_left_out_is_not_drawn() -> None:
    """Its loss is NaN or infinite, which has no place on a curve; the display goes on."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None)
    curves = Curves()
    progress = LiveProgress(console, curves=curves, redraw_s=0.5, read_memory_bytes=lambda: 0)
    progress.start(Extent("digits", total_steps=4, epochs=1, batch_size=10, step=0), now=0.0)
    for step, loss in enumerate([2.0, float("nan"), float("inf"), 1.0], start=1):
        progress.update(StepRecord(step, 0, 10, loss, 0.1, 1.0, float(step)))
    progress.close()
    assert curves.training.points == [(1, 2.0), (4, 1.0)]
    assert "loss nan" in stream.getvalue()
