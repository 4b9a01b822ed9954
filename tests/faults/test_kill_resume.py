"""SIGKILL at any moment of training, mid-save included, then resume: the end is that of a run nobody touched.

The kills are spread by a seed over start-up, steps, saves and evaluations of real trainer processes. A kill of a
process says nothing about a power cut; that is the store's to prove.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
POLL_S = 0.0005  # a save of this net takes 3 to 10 ms


def start(directory: Path, epochs: int, num_threads: int) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "tests.faults.train_child", str(directory), str(epochs), str(num_threads)]
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL)


def finish(directory: Path, epochs: int, num_threads: int) -> None:
    """Let a process run to its end."""
    child = start(directory, epochs, num_threads)
    try:
        assert child.wait() == 0
    finally:
        child.kill()
        child.wait()


def unfinished_saves(directory: Path) -> set[str]:
    folder = directory / "checkpoints"
    return {path.name for path in folder.iterdir() if path.suffix == ".tmp"} if folder.is_dir() else set()


def kill(child: subprocess.Popen[bytes], moment: Callable[[], bool], delay_s: float) -> bool:
    """Wait for `moment`, then `delay_s`, and kill; False when the child came to its end before."""
    try:
        while not moment():
            if child.poll() is not None:
                return False
            time.sleep(POLL_S)
        time.sleep(delay_s)
        child.kill()
    finally:
        child.kill()
        child.wait()
    return child.returncode == -9


def save_seen(directory: Path, count: int) -> Callable[[], bool]:
    """True from the moment that the `count`th save since now has begun."""
    seen = unfinished_saves(directory)
    begun = len(seen)

    def moment() -> bool:
        seen.update(unfinished_saves(directory))
        return len(seen) >= begun + count

    return moment


def step_logged(directory: Path) -> Callable[[], bool]:
    """True from the moment that the process has written an entry of its own into the history."""
    path = directory / "metrics.jsonl"

    def size() -> int:
        return path.stat().st_ino + path.stat().st_size if path.exists() else 0

    before = size()
    return lambda: size() != before


def sweep(tmp_path: Path, *, num_kills: int, epochs: int, num_threads: int, seed: int) -> list[str]:
    """Kill and resume one run `num_kills` times; the files in which its end differs from that of a run left alone."""
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    finish(calm, epochs, num_threads)
    draw = random.Random(seed)
    num_killed, num_torn = 0, 0
    for number in range(num_kills):
        kind = ("save", "step", "save", "start")[number % 4]
        moment, delay_s = {
            # A save takes 3 to 10 ms, as the disk is: evenly spread over the powers of two, some hit its every part.
            "save": (save_seen(killed, draw.randint(1, 3)), 0.0002 * 40.0 ** draw.random()),
            "step": (step_logged(killed), draw.uniform(0.0, 0.06)),
            "start": (lambda: True, draw.uniform(0.0, 3.0)),
        }[kind]
        num_killed += kill(start(killed, epochs, num_threads), moment, delay_s)
        num_torn += bool(unfinished_saves(killed))
    finish(killed, epochs, num_threads)

    assert num_killed >= 0.9 * num_kills, "the run was too short for so many kills"
    assert num_torn >= 0.15 * num_kills, "too few kills came in the middle of a save"
    return differing(killed, calm)


def differing(directory: Path, calm: Path) -> list[str]:
    """The files of a finished run, the last checkpoint and the history, whose bytes are not those of the run `calm`."""
    last = max((calm / "checkpoints").iterdir(), key=lambda path: int(path.name)).name
    names = ("model.safetensors", "best.safetensors", "optimizer.safetensors", "history.jsonl")
    paths = [*(f"checkpoints/{last}/{name}" for name in names), "metrics.jsonl"]
    return [path for path in paths if (directory / path).read_bytes() != (calm / path).read_bytes()]


@pytest.mark.timeout(300)
def test_killed_twelve_times_equals_untouched(tmp_path: Path) -> None:
    """Twelve kills, six aimed at saves: weights, optimiser, best weights and history are equal in every byte."""
    assert sweep(tmp_path, num_kills=12, epochs=14, num_threads=1, seed=1) == []


@pytest.mark.slow
@pytest.mark.timeout(5400)  # on an idle machine about six minutes; two threads on busy cores wait for each other
def test_killed_a_hundred_times_equals_untouched(tmp_path: Path) -> None:
    """A hundred kills with two threads."""
    assert sweep(tmp_path, num_kills=100, epochs=100, num_threads=2, seed=2) == []
