"""Suspect steps: their rows are named as positions in the source, and leave training without moving any other row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from corelane.core.errors import CrashLoopError
from corelane.data.order import EpochOrder, epoch_order
from corelane.data.prepared import PreparedPart
from corelane.observe.log import SystemLogger
from corelane.train.config import TrainConfig
from corelane.train.suspects import HealthyRows, Suspect, describe, healthy_rows, read_suspects, write_suspects
from tests.train.examples import classification

SEED, BATCH = 7, 16


def part() -> PreparedPart:
    """280 rows whose positions in the source are not their indices."""
    train = classification().train
    return replace(train, positions=np.arange(train.num_rows) * 3 + 1)


def rows_of(directory: Path, policy: str) -> HealthyRows:
    config = TrainConfig(on_crash_loop=policy)
    with SystemLogger() as logger:
        return healthy_rows(directory, config, seed=SEED, part=part(), batch_size=BATCH, logger=logger)


def test_without_suspects_the_order_is_untouched(tmp_path: Path) -> None:
    """The plain order itself, which reads ahead by windows."""
    assert isinstance(rows_of(tmp_path, "stop").order(0), EpochOrder)


def test_stop_names_step_and_rows(tmp_path: Path) -> None:
    """The message and the file name the rows of exactly that batch, by their positions in the source."""
    write_suspects(tmp_path, [Suspect(1, 2, 20, "it crashed")])
    with pytest.raises(CrashLoopError, match=r"step 20.*it crashed.*batch 3 of epoch 2: rows .*on_crash_loop"):
        rows_of(tmp_path, "stop")
    order = np.concatenate(list(epoch_order(SEED, 1, part().num_rows, part().row_bytes).rows()))
    positions = part().positions[order[2 * BATCH : 3 * BATCH]]
    (suspect,) = read_suspects(tmp_path)
    assert suspect.positions == tuple(positions)
    assert str(positions[0]) in describe(suspect)


def test_quarantined_rows_are_seen_no_more_and_others_stay_in_place(tmp_path: Path) -> None:
    """In every epoch others are drawn in their place, the same ones each time; all other places keep their rows."""
    write_suspects(tmp_path, [Suspect(1, 2, 20, "it crashed"), Suspect(2, 0, 35, "it hung")])
    healthy, again = rows_of(tmp_path, "quarantine"), rows_of(tmp_path, "quarantine")
    removed = {(row - 1) // 3 for suspect in read_suspects(tmp_path) for row in suspect.positions}
    assert len(removed) > BATCH
    for epoch in range(4):
        order = healthy.order(epoch)
        assert isinstance(order, np.ndarray)
        plain = np.concatenate(list(epoch_order(SEED, epoch, part().num_rows, part().row_bytes).rows()))
        assert not removed & set(order.tolist())
        kept = ~np.isin(plain, list(removed))
        assert (order[kept] == plain[kept]).all()
        assert len(order) == len(plain)
        assert (order == again.order(epoch)).all()


def test_no_rows_left_is_an_error(tmp_path: Path) -> None:
    """When every row was taken out there is nothing to train on, and the last step is named."""
    write_suspects(tmp_path, [Suspect(0, batch, batch + 1, "it crashed") for batch in range(280 // 8)])
    config = TrainConfig(on_crash_loop="quarantine")
    with SystemLogger() as logger, pytest.raises(CrashLoopError, match="step 35"):
        healthy_rows(tmp_path, config, seed=SEED, part=part(), batch_size=8, logger=logger)


def test_none_removes_the_record(tmp_path: Path) -> None:
    """Writing no suspects forgets the earlier ones."""
    write_suspects(tmp_path, [Suspect(0, 0, 1, "it crashed")])
    write_suspects(tmp_path, [])
    assert read_suspects(tmp_path) == []
