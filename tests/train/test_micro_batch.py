"""Smaller pieces of a batch after the memory ended: halved from what was in use, kept in the run, down to one row."""

from __future__ import annotations

from pathlib import Path

import pytest

from corelane.core.errors import OutOfMemoryError
from corelane.train.config import TrainConfig
from corelane.train.heartbeat import Beat
from corelane.train.micro_batch import halve, recorded_rows, within_memory


def test_what_was_in_use_is_halved(tmp_path: Path) -> None:
    """The trainer knows how many rows it took; without its word the last record, then the configuration counts."""
    config = TrainConfig(batch_size=64)
    assert within_memory(config, tmp_path) is config
    assert halve(tmp_path, config, Beat()) == 32
    assert halve(tmp_path, config, Beat()) == 16
    assert halve(tmp_path, config, Beat(micro_batch=5)) == 2
    assert recorded_rows(tmp_path) == 2
    assert within_memory(config, tmp_path) == config.model_copy(update={"micro_batch_size": 2})


def test_the_configured_size_is_where_it_starts(tmp_path: Path) -> None:
    """A run that was configured to take pieces of 10 goes on with 5."""
    assert halve(tmp_path, TrainConfig(batch_size=64, micro_batch_size=10), Beat()) == 5


def test_what_is_set_afterwards_goes_first(tmp_path: Path) -> None:
    """A run that was brought down goes up again where a size is set, and down from there; null takes the record."""
    as_begun, more = TrainConfig(batch_size=64, micro_batch_size=32), TrainConfig(batch_size=64, micro_batch_size=64)
    halve(tmp_path, as_begun, Beat())
    assert within_memory(as_begun, tmp_path).micro_batch_size == 16
    assert within_memory(more, tmp_path) is more
    assert halve(tmp_path, more, Beat()) == 32
    assert within_memory(more, tmp_path).micro_batch_size == 32
    assert within_memory(TrainConfig(batch_size=64), tmp_path).micro_batch_size == 32


def test_one_row_cannot_be_halved(tmp_path: Path) -> None:
    """Then the error says what to do."""
    with pytest.raises(
        OutOfMemoryError, match=r"one row.*step 4.*more memory.*--resume and --set train\.micro_batch_size=64"
    ):
        halve(tmp_path, TrainConfig(), Beat(micro_batch=1, step=3))
