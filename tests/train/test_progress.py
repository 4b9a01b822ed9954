"""What a person sees of a training."""

from __future__ import annotations

import io
import os
from io import FileIO

import pytest

from corelane.train.live import make_progress
from corelane.train.progress import (
    Extent,
    LineProgress,
    SilentProgress,
    TrainingProgress,
)
from corelane.train.record import EpochRecord, StepRecord

EXTENT = Extent("digits", total_steps=200, epochs=4, batch_size=10, step=20)


def drive(progress: TrainingProgress) -> None:
    """A run of 12 s from step 20 to the end, an epoch's message in the middle."""
    progress.start(EXTENT, now=5.0)
    for step in range(21, 201):
        progress.update(StepRecord(step, step // 50, 10, 1.0 / step, 0.1, 1.0, 5.0 + (step - 20) / 15))
        if step == 100:
            progress.epoch(EpochRecord(1, 4, step, {"validation_loss": 0.5}, is_best=True))
    progress.close()
    progress.close()


def test_without_a_terminal_plain_lines() -> None:
    """A log file gets where the run starts, a line every ten seconds with rate and share, and the messages."""
    stream = io.StringIO()
    progress = make_progress(stream=stream)
    drive(progress)
    assert isinstance(progress, LineProgress)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "training digits: 4 epochs, 200 steps, going on after step 20"
    assert lines[1] == "epoch 2/4 * validation loss 0.5000"
    assert lines[2] == "epoch 4  85%  loss 0.0059  150 examples/s"
    assert len(lines) == 3


def test_quiet_is_silent() -> None:
    """Quiet shows nothing at all."""
    stream = io.StringIO()
    progress = make_progress(quiet=True, stream=stream)
    drive(progress)
    assert isinstance(progress, SilentProgress)
    assert stream.getvalue() == ""


def test_nobody_listening_is_no_reason_to_stop() -> None:
    """A pipe whose reader has gone costs the lines, not the training."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with pytest.raises(BrokenPipeError):
        os.write(write_end, b"nobody reads this")
    with FileIO(write_end, "w") as raw:
        stream = io.TextIOWrapper(raw, write_through=True)
        drive(LineProgress(stream))
        stream.detach()
