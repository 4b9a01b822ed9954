"""The power fails while a network is trained and saved behind the training; the run goes on from what the disk holds.

The trainer is a process of its own on a disk whose power can be cut (`power.py`). What it logs as saved is its word.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from corelane.store.bundle import verify_bundle
from tests.faults.power import Disk, powered
from tests.faults.test_kill_resume import ROOT, differing

EPOCHS = 30  # about 1,000 steps: longer than all the cuts take
NUM_CUTS = 5


@pytest.mark.needs("ext4")
@pytest.mark.timeout(300)
def test_a_trainer_goes_on_after_a_power_cut(tmp_path: Path) -> None:
    """A2: At each of five cuts what was logged as saved is on the disk, whole; resumed from the last one, the run ends
    with the bytes of one that nobody touched.
    """
    subprocess.run(_argv(tmp_path / "calm"), cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    with powered(tmp_path, "ext4") as disk:
        _cut_power(disk, tmp_path / "cut")
    subprocess.run(_argv(tmp_path / "cut"), cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    assert differing(tmp_path / "cut", tmp_path / "calm") == []


def _argv(directory: Path) -> list[str]:
    return [sys.executable, "-m", "tests.faults.train_child", str(directory), str(EPOCHS), "1"]


def _cut_power(disk: Disk, copy: Path) -> None:
    """Train on the disk, look at it after each of the cuts, and leave the run of the last one in `copy`."""
    draw = random.Random(5)
    log = copy.with_suffix(".log")
    with log.open("wb") as stream:
        trainer = subprocess.Popen(_argv(disk.path / "run"), cwd=ROOT, stdout=stream)
    try:
        while not _announced(log):
            assert trainer.poll() is None
            time.sleep(0.001)
        for _ in range(NUM_CUTS):
            time.sleep(draw.uniform(0, 0.15))
            trainer.send_signal(signal.SIGSTOP)
            _, status = os.waitpid(trainer.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status), "the run ended before the cuts did"
            with disk.after_cut() as found:
                steps = [int(path.name) for path in (found / "run/checkpoints").glob("[0-9]*")]
                assert max(steps) >= _announced(log)
                for step in steps:
                    verify_bundle(found / "run/checkpoints" / str(step), "checkpoint")
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(found / "run", copy)
            trainer.send_signal(signal.SIGCONT)
    finally:
        trainer.kill()
        trainer.wait()


def _announced(log: Path) -> int:
    return max(map(int, re.findall(rb'"checkpoint_saved".*"durable_step":\s*(\d+)', log.read_bytes())), default=0)
