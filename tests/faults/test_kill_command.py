"""`corelane train` killed with SIGKILL and resumed with `--resume`, as a user would: the bytes of a calm run.

The sweep over many steps is `test_kill_resume.py`; this one goes through the command and its supervised child.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.training_command import (
    all_gone,
    command,
    final_files,
    last_beat,
    run,
    start,
    wait_until,
    write_project,
)

SHORT = ("--set", "train.epochs=12")
LAST_STEP = 300  # of 360: a busy machine takes a while from seeing the step to the kill


def kill_at(folder: Path, step: int, *options: str) -> None:
    """Start the command, wait until its trainer has taken `step` steps of the run, and kill the command outright."""
    before = last_beat(folder)
    process = start(folder, command(folder, *SHORT, *options))
    wait_until(lambda: last_beat(folder).pid != before.pid and last_beat(folder).step >= step, process, f"step {step}")
    process.kill()
    process.communicate()
    assert all_gone(str(folder)), "the trainer must die with the command"


@pytest.mark.parametrize(
    "num_kills",
    [
        pytest.param(2, marks=pytest.mark.timeout(600)),
        pytest.param(10, marks=(pytest.mark.slow, pytest.mark.timeout(1800))),
    ],
)
def test_the_killed_command_resumes_to_the_same_bytes(tmp_path: Path, num_kills: int) -> None:
    """B2: The command itself is killed, each time at a later step, then resumed to its end: every byte is equal."""
    write_project(tmp_path)
    assert run(tmp_path, *SHORT, runs="calm").returncode == 0
    steps = sorted(random.Random(num_kills).sample(range(1, LAST_STEP), num_kills))
    for number, step in enumerate(steps):
        kill_at(tmp_path, step, *(["--resume"] if number else []))
    assert run(tmp_path, *SHORT, "--resume").returncode == 0
    assert final_files(tmp_path, "runs/run-001") == final_files(tmp_path, "calm/run-001")
