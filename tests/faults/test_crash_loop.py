"""One poisonous row crashes the trainer each time: the run names it and stops, or goes on without it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal

import pytest

from corelane.app.runs import raise_recorded_error
from corelane.core.errors import CrashLoopError
from corelane.observe.log import SystemLogger
from corelane.train.config import TrainConfig
from corelane.train.recover import FaultTolerantTrainer, read_restarts
from corelane.train.suspects import read_suspects
from tests.faults.crash_child import POISON_ROW


def supervise(directory: Path, policy: Literal["stop", "quarantine"]) -> int:
    with SystemLogger(directory=directory / "logs", terminal_level="critical") as logger:
        trainer = FaultTolerantTrainer(
            TrainConfig(max_retries=1, on_crash_loop=policy),
            argv=[sys.executable, "-m", "tests.faults.crash_child", str(directory), "crash", policy],
            directory=directory,
            logger=logger,
        )
        return trainer.train_with_recovery()


@pytest.mark.timeout(300)
def test_stop_names_the_step_and_its_rows(tmp_path: Path) -> None:
    """B7: After the retries, the error names step, batch and rows, the poisonous one among them."""
    code = supervise(tmp_path, "stop")
    assert code == 70
    with pytest.raises(CrashLoopError, match=r"step \d+, .*SIGSEGV.*rows \d+.*on_crash_loop=quarantine"):
        raise_recorded_error(tmp_path, code)
    (suspect,) = read_suspects(tmp_path)
    assert POISON_ROW in suspect.positions
    assert len(suspect.positions) == 32


@pytest.mark.timeout(300)
def test_quarantine_goes_on_without_the_rows(tmp_path: Path) -> None:
    """B7: The rows are recorded, and the run comes to its end though the row would come again in each epoch."""
    assert supervise(tmp_path, "quarantine") == 0
    (suspect,) = read_suspects(tmp_path)
    assert POISON_ROW in suspect.positions
    assert len(read_restarts(tmp_path)) == 2
    epochs = [
        json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines() if "train_loss" in line
    ]
    assert [entry["epoch"] for entry in epochs] == [0, 1, 2, 3]
