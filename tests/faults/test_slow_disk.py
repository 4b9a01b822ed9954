"""A disk whose every flush takes long, for real: strace holds back each fsync of a trainer. The steps go on.

The delay stands for a throttled block device: what makes a slow disk felt in a save are its flushes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from corelane.train.checkpoint import read_checkpoint
from corelane.train.retention import saved_steps
from tests.train.examples import classification, dropout_net, run, weights

ROOT = Path(__file__).parents[2]
FSYNC_S = 0.15  # a save makes about nine of them
PROGRAM = """
import sys
from pathlib import Path
from corelane.observe.config import ObserveConfig
from corelane.observe.log import SystemLogger
from tests.train.examples import classification, dropout_net, run
directory, policy = Path(sys.argv[1]), sys.argv[2]
with SystemLogger(ObserveConfig(), directory=directory / "logs", terminal_level="error") as logger:
    run(directory, classification(), dropout_net(), logger=logger, epochs=20, save_interval=50, save_policy=policy)
"""


def trained(directory: Path, policy: str) -> list[dict[str, Any]]:
    """Train 160 steps with a save due every 50, on the slow disk; the log's entries."""
    directory.mkdir()
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", "--seccomp-bpf", "-e", "trace=fsync"]
    inject = ["-e", f"inject=fsync:delay_enter={int(FSYNC_S * 1e6)}"]
    argv = [*trace, *inject, sys.executable, "-c", PROGRAM, str(directory), policy]
    subprocess.run(argv, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, timeout=120)
    return [json.loads(line) for line in (directory / "logs/training.jsonl").read_text().splitlines()]


@pytest.mark.needs("strace")
def test_steps_go_on_while_a_slow_disk_saves(tmp_path: Path) -> None:
    """A11: with `skip` the loop stands still for the copy only, saves that come too early are counted, and the end is
    the same bytes as on a fast disk.
    """
    entries = trained(tmp_path / "slow", "skip")
    saved = [entry for entry in entries if entry["event"] == "checkpoint_saved"]
    assert saved[0]["checkpoint_s"] > 5 * FSYNC_S
    assert saved[0]["checkpoint_stall_s"] < saved[0]["checkpoint_s"] / 2
    assert [entry["step"] for entry in entries if entry["event"] == "checkpoint_skipped"]
    assert saved[-1]["durable_step"] == 160
    calm = dropout_net()
    run(tmp_path / "calm", classification(), calm, epochs=20, save_interval=50)
    last = read_checkpoint(tmp_path / "slow/checkpoints/160")
    assert last.best is not None
    end = dropout_net(seed=1)
    last.best.load_into(end)
    assert weights(end) == weights(calm)


@pytest.mark.needs("strace")
def test_with_wait_none_is_skipped(tmp_path: Path) -> None:
    """A9: with `wait` the loop waits for the save before, which the stall shows, and every save is there."""
    entries = trained(tmp_path / "slow", "wait")
    saved = [entry for entry in entries if entry["event"] == "checkpoint_saved"]
    assert [entry["durable_step"] for entry in saved] == [50, 100, 150, 160]
    assert max(entry["checkpoint_stall_s"] for entry in saved) > FSYNC_S
    assert saved_steps(tmp_path / "slow/checkpoints") == [100, 150, 160]
