"""A trainer that no longer moves is ended, its stacks kept; one that cannot get what it needs ends with a remedy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from corelane.observe.log import SystemLogger
from corelane.train.config import TrainConfig
from corelane.train.recover import FaultTolerantTrainer, read_restarts
from tests.faults.training_command import command, final_files, last_beat, run, start, wait_until, write_project

HANG_S = 8.0  # a step takes milliseconds, a slow import of torch is work and no silence; other work may delay both


@pytest.mark.timeout(300)
def test_a_fork_beside_threads_that_deadlocks_is_seen(tmp_path: Path) -> None:
    """B10: The stacks say that the trainer waits in its fork; it is started again and comes to its end."""
    with SystemLogger(directory=tmp_path / "logs", terminal_level="critical") as logger:
        trainer = FaultTolerantTrainer(
            TrainConfig(hang_timeout_s=HANG_S),
            argv=[sys.executable, "-m", "tests.faults.crash_child", str(tmp_path), "deadlock", "stop"],
            directory=tmp_path,
            logger=logger,
        )
        assert trainer.train_with_recovery() == 0
    (restart,) = read_restarts(tmp_path)
    assert "hung: no sign of life" in restart.reason
    assert restart.phase == "train"
    (stacks,) = (tmp_path / "logs").glob("stacks-*.txt")
    assert "deadlock_after_fork" in stacks.read_text()


@pytest.mark.timeout(300)
def test_a_stopped_trainer_is_started_again(tmp_path: Path) -> None:
    """B10: SIGSTOP and no SIGCONT: noticed, told, and the end has the bytes of a calm run."""
    write_project(tmp_path)
    assert run(tmp_path, runs="calm").returncode == 0
    process = start(tmp_path, command(tmp_path, "--set", f"train.hang_timeout_s={HANG_S}"))
    wait_until(lambda: last_beat(tmp_path).step > 60, process, "some steps")
    os.kill(last_beat(tmp_path).pid, signal.SIGSTOP)
    output, _ = process.communicate(timeout=120.0)
    assert process.returncode == 0
    (told,) = json.loads(output)["restarts"]
    assert "stopped from outside (SIGSTOP)" in told
    assert final_files(tmp_path, "runs/run-001") == final_files(tmp_path, "calm/run-001")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("limit", [24, 40, 64])
def test_too_few_open_files_end_with_a_remedy(tmp_path: Path, limit: int) -> None:
    """B10: Wherever the files run out, the command ends by itself, well or with one line that says what to raise."""
    write_project(tmp_path)
    argv = ["prlimit", f"--nofile={limit}", *command(tmp_path, "--set", "train.epochs=2")]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=200.0, check=False)
    if done.returncode != 0:
        assert "ulimit -n" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.needs("mount")
@pytest.mark.timeout(300)
def test_full_shared_memory_is_not_needed(tmp_path: Path) -> None:
    """B10: Nothing of the training lies in /dev/shm: with none left the run ends with the bytes of any other."""
    write_project(tmp_path)
    assert run(tmp_path, "--set", "train.epochs=2", runs="calm").returncode == 0
    script = 'mount -t tmpfs -o size=4k tmpfs /dev/shm && head -c 4096 /dev/zero > /dev/shm/full; exec "$@"'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", *command(tmp_path, "--set", "train.epochs=2")]
    subprocess.run(argv, cwd=tmp_path, capture_output=True, timeout=200.0, check=True)
    assert final_files(tmp_path, "runs/run-001") == final_files(tmp_path, "calm/run-001")
