"""`corelane train` as a process of its own, for tests that do something to it: its files, its child, its stages."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from corelane.train.heartbeat import Beat, Heartbeat

TIMEOUT_S = 240.0  # what takes 4 s on an idle machine took 100 s beside a load of 14

CONFIG = """
name: run
data: {source: {type: filesystem, path: rows.csv}, target: kind, split: {test: 0.1}}
model: {net: mlp, hidden: [32], dropout: 0.2}
train: {epochs: 40, batch_size: 16, save_interval: 25}
machine: {threads: 1, cache: cache, plan: eager}
"""


def write_project(folder: Path, *, num_rows: int = 600, config: str = CONFIG) -> None:
    """Rows of three numbers and two labels, and a configuration."""
    rows = np.random.default_rng(0).normal(size=(num_rows, 3))
    lines = [f"{a:.4f},{b:.4f},{c:.4f},{'in' if a + b > c else 'out'}" for a, b, c in rows]
    (folder / "rows.csv").write_text("\n".join(["a,b,c,kind", *lines]) + "\n")
    (folder / "config.yaml").write_text(config)


def command(folder: Path, *options: str, runs: str = "runs", package: bool = False) -> list[str]:
    """The command line; the folder's name in it marks the command and all that it starts."""
    argv = [sys.executable, "-m", "corelane", "train", str(folder / "config.yaml"), "--json"]
    argv += ["--runs", str(folder / runs), *options]
    return argv if package else [*argv, "--no-package"]


def start(folder: Path, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start the command with its output caught."""
    return subprocess.Popen(
        argv,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, *options: str, runs: str = "runs") -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        command(folder, *options, runs=runs), cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen[str], what: str) -> None:
    """Wait for something that a process does; an error with its output when it ended or took too long."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while not is_so():
        if process.poll() is not None or time.monotonic() > deadline_s:
            process.kill()
            raise AssertionError(f"{what} did not come: {process.communicate()}")
        time.sleep(0.002)


def last_beat(folder: Path, run_name: str = "runs/run-001") -> Beat:
    """Where the trainer of a run is; the beginning when it has not said yet."""
    try:
        heartbeat = Heartbeat(folder / run_name / "heartbeat")
    except (OSError, ValueError):
        return Beat()
    try:
        return heartbeat.read()
    finally:
        heartbeat.close()


def processes_of(marker: str) -> list[int]:
    """The processes that have `marker` in their command line, other than this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def all_gone(marker: str) -> bool:
    """Whether every process with `marker` in its command line ends within seconds."""
    deadline_s = time.monotonic() + 30.0
    while processes_of(marker) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return not processes_of(marker)


def final_files(folder: Path, run_name: str) -> dict[str, bytes]:
    """The bytes of a finished run that must be equal in every way to it: weights, optimiser, history."""
    directory = folder / run_name
    newest = max((directory / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    paths = [*sorted(newest.glob("*.safetensors")), directory / "metrics.jsonl"]
    return {path.name: path.read_bytes() for path in paths}
