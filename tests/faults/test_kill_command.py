"""`corelane train` killed with SIGKILL and resumed with `--resume`, as a user would: the weights of a calm run.

The sweep over many moments is `test_kill_resume.py`; this one goes through the command and its supervised child.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

NUM_KILLS = 4
TIMEOUT_S = 120.0

CONFIG = """
name: killed
data: {source: {type: filesystem, path: rows.csv}, target: kind, split: {test: 0.1}}
model: {hidden: [32], dropout: 0.2}
train: {epochs: 40, batch_size: 16, save_interval: 25}
machine: {threads: 1, plan: eager}
"""


def _command(folder: Path, runs: str, *options: str) -> list[str]:
    argv = [sys.executable, "-m", "corelane", "train", "config.yaml", "--no-package", "--json"]
    return [*argv, "--runs", str(folder / runs), *options]


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}


def _final_weights(run: Path) -> bytes:
    newest = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))
    return (newest / "model.safetensors").read_bytes()


def _num_steps(run: Path) -> int:
    """How far the run has got, as its checkpoints show from outside."""
    names = [path.name for path in (run / "checkpoints").glob("[0-9]*")]
    return max((int(name) for name in names), default=0)


def _is_alive(marker: str) -> bool:
    """Whether any process has `marker` in its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes():
                return True
        except OSError:
            continue
    return False


def _kill_after(folder: Path, target_step: int, delay_s: float, *options: str) -> None:
    """Start the command, let it reach a checkpoint of `target_step`, wait a moment more, and kill it outright."""
    run = folder / "runs" / "killed-001"
    with subprocess.Popen(
        _command(folder, "runs", *options), cwd=folder, env=_environment(folder), stdout=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + TIMEOUT_S
        while _num_steps(run) < target_step and process.poll() is None and time.monotonic() < deadline:
            os.sched_yield()
        pause = time.monotonic() + delay_s
        while time.monotonic() < pause:
            os.sched_yield()
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + TIMEOUT_S
    while _is_alive(str(run)) and time.monotonic() < deadline:
        os.sched_yield()
    assert not _is_alive(str(run)), "the trainer must die with the command"


def test_the_killed_command_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    """Four kills of the command itself, then `--resume` to the end: byte-identical final weights."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(600, 3))
    lines = [f"{a:.4f},{b:.4f},{c:.4f},{'in' if a + b > c else 'out'}" for a, b, c in x]
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,c,kind", *lines]) + "\n")
    (tmp_path / "config.yaml").write_text(CONFIG)
    subprocess.run(_command(tmp_path, "calm"), cwd=tmp_path, env=_environment(tmp_path), check=True)

    moments = random.Random(0)
    for kill in range(NUM_KILLS):
        options = ["--resume"] if kill else []
        _kill_after(tmp_path, kill * 250, moments.uniform(0.0, 0.3 if kill else 2.0), *options)
    subprocess.run(_command(tmp_path, "runs", "--resume"), cwd=tmp_path, env=_environment(tmp_path), check=True)
    assert _final_weights(tmp_path / "runs/killed-001") == _final_weights(tmp_path / "calm/killed-001")
