"""B2: SIGKILL at any step of training, mid-save included, then resume: the end is that of a run nobody touched.

The steps are drawn from a seed and spread over the whole run; some kills come before the first step of a process. The
state at the end is compared byte by byte, and a ledger of the rows that the network really saw is gone through. A kill
of a process says nothing about a power cut; that is `test_power_cut_training.py`.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.faults.train_child import LEDGER

ROOT = Path(__file__).parents[2]
BATCH_ROWS, STEPS_PER_EPOCH = 32, 21  # of the child: 700 rows, and the rest of an epoch is left out
START_S = 0.3  # by then an idle machine is in its first steps


class Kill(NamedTuple):
    """When a process is to die: while it starts, at the end of a step, in a save; from `step` on, after `delay_s`."""

    phase: str
    step: int
    delay_s: float


def draw_kills(num_kills: int, epochs: int, seed: int) -> list[Kill]:
    """Kills at steps in rising order: half of them in a save, most others at a step, a tenth before any step."""
    draw = random.Random(seed)
    last = round(0.95 * epochs * STEPS_PER_EPOCH)  # the save from there on is to come before the end
    steps = sorted(draw.sample(range(1, last), num_kills))
    phases = [("save", "train")[number % 2] if number % 10 != 5 else "start" for number in range(num_kills)]
    # A save takes 3 to 10 ms, as the disk is: evenly spread over the powers of two, they hit its every part.
    delays_s: dict[str, Callable[[], float]] = {
        "save": lambda: 0.0002 * 20.0 ** draw.random(),
        "train": lambda: 0.0,
        "start": lambda: START_S * draw.random(),
    }
    return [Kill(phase, step, delays_s[phase]()) for phase, step in zip(phases, steps, strict=True)]


@contextmanager
def trainers(epochs: int, num_threads: int) -> Iterator[Callable[..., int]]:
    """A function that starts or resumes the run in a directory, in a process of its own, and gives its return code."""
    argv = [sys.executable, "-m", "tests.faults.train_child", "serve"]
    with subprocess.Popen(argv, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        orders, answers = server.stdin, server.stdout
        assert orders is not None
        assert answers is not None

        def train(directory: Path, *kill: object) -> int:
            orders.write(" ".join(map(str, (directory, epochs, num_threads, *kill))) + "\n")
            orders.flush()
            return int(answers.readline())

        yield train


def sweep(tmp_path: Path, *, num_kills: int, epochs: int, num_threads: int, seed: int) -> None:
    """Kill and resume one run `num_kills` times, and compare its end with that of a run left alone."""
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    num_torn = 0
    with trainers(epochs, num_threads) as train:
        assert train(calm) == 0
        for kill in draw_kills(num_kills, epochs, seed):
            assert train(killed, *kill) == -signal.SIGKILL, kill
            num_torn += bool(list((killed / "checkpoints").glob(".*.tmp")))
        assert train(killed) == 0

    assert num_torn >= num_kills // 10, "too few kills came in the middle of a save"
    assert differing(killed, calm) == []
    assert rows_by_step(killed) == rows_by_step(calm)
    check_rows(killed, epochs)


def differing(directory: Path, calm: Path) -> list[str]:
    """The files of a finished run, the last checkpoint and the history, that are not those of the run `calm`.

    Of the state all counts: counters, sums, schedule, random generators; not the time of day and the seconds passed.
    """
    last = max((calm / "checkpoints").iterdir(), key=lambda path: int(path.name))
    paths = [*(path.relative_to(calm) for path in sorted(last.iterdir())), Path("metrics.jsonl")]
    contents = [path for path in paths if path.suffix != ".json"]  # the manifest has the digest of the state
    found = [str(path) for path in contents if (directory / path).read_bytes() != (calm / path).read_bytes()]
    states = [_state(run / "checkpoints" / last.name) for run in (directory, calm)]
    return found + [f"state: {key}" for key in states[1] if states[0].get(key) != states[1][key]]


def _state(checkpoint: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((checkpoint / "state.json").read_bytes())
    del state["counters"]["seconds"], state["saved_at"]
    return state


def rows_by_step(directory: Path) -> dict[int, list[Any]]:
    """Epoch and rows of each step, as the network saw them. A step that was taken again had the same ones each time.

    Each process goes on, step after step, behind a step that was taken before it.
    """
    taken: dict[int, list[Any]] = {}
    for path in sorted((directory / LEDGER).iterdir()):
        lines = path.read_bytes().splitlines(keepends=True)
        entries = [json.loads(line) for line in lines if line.endswith(b"\n")]  # the kill may have torn the last one
        steps = [step for step, _, _ in entries]
        assert steps == list(range(steps[0], steps[0] + len(steps))) if steps else True
        assert not steps or steps[0] <= max(taken, default=0) + 1, "steps were left out"
        for step, *what in entries:
            assert taken.setdefault(step, what) == what, f"step {step} had other rows the second time"
    return taken


def check_rows(directory: Path, epochs: int) -> None:
    """No row of an epoch was lost, and none was there twice."""
    taken = rows_by_step(directory)
    assert sorted(taken) == list(range(1, epochs * STEPS_PER_EPOCH + 1))
    by_epoch: dict[int, list[int]] = defaultdict(list)
    for epoch, rows in taken.values():
        by_epoch[epoch] += rows
    assert sorted(by_epoch) == list(range(epochs))
    for rows in by_epoch.values():
        assert len(rows) == len(set(rows)) == STEPS_PER_EPOCH * BATCH_ROWS


@pytest.mark.timeout(300)
def test_killed_ten_times_equals_untouched(tmp_path: Path) -> None:
    """B2: Ten kills, five of them in saves: every byte of the state is equal, and no row was lost or repeated."""
    sweep(tmp_path, num_kills=10, epochs=8, num_threads=1, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(5400)  # on an idle machine about five minutes; two threads on busy cores wait for each other
def test_killed_a_hundred_times_equals_untouched(tmp_path: Path) -> None:
    """B2: A hundred kills with two threads."""
    sweep(tmp_path, num_kills=100, epochs=60, num_threads=2, seed=2)
