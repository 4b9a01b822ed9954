"""The kernel kills the trainer for memory in a real control group: the run comes to its end by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corelane.train.micro_batch import recorded_rows
from corelane.train.recover import read_restarts
from tests.faults.memory_group import memory_group
from tests.faults.training_command import command, write_project

# 16,384 rows of six layers of 512 need 1,250 MiB for the whole tree of processes, 2,048 rows 690.
LIMIT_BYTES = 900 << 20
CONFIG = """
name: run
data: {source: {type: filesystem, path: rows.csv}, target: kind, split: {test: 0.1}}
model: {net: mlp, hidden: [512, 512, 512, 512, 512, 512]}
train: {epochs: 2, batch_size: 16384, micro_batch_size: 16384, save_interval: 1, scheduler: constant}
machine: {threads: 1, cache: cache, plan: PLAN}
"""


@pytest.mark.needs("memory-group")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("plan", "phase", "num_rows"),
    [
        ("eager", "train", 16_205),  # the training part is that small
        pytest.param("auto", "plan", 16_384, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_killed_for_memory_finishes_by_itself(
    tmp_path: Path, plan: str, phase: str, num_rows: int
) -> None:
    """The first step, or the search for a plan before it, is killed. The parent, in the same group, survives; the
    pieces are halved until they fit, and log and result say so.
    """
    write_project(tmp_path, num_rows=20_000, config=CONFIG.replace("PLAN", plan))
    with memory_group(LIMIT_BYTES) as group:
        done = group.run(command(tmp_path), cwd=tmp_path, timeout_s=500.0)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["num_steps"] == 2
    assert all("no memory left" in told and "the batch stays" in told for told in result["restarts"])
    assert read_restarts(tmp_path / "runs/run-001")[0].phase == phase
    rows = recorded_rows(tmp_path / "runs/run-001")
    assert rows is not None
    assert rows == num_rows >> len(result["restarts"])
    log = (tmp_path / "runs/run-001/logs/training.jsonl").read_text()
    assert "not bit-equal" in log
