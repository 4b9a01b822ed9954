"""The power fails at a random moment of saving, again and again: what was announced as durable is there, and whole.

A process saves checkpoints on a disk whose power can be cut (`power.py`) and announces each one after its save has
returned. At a random moment it is stopped, and the disk is looked at as it would be after a power failure.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pytest

from corelane.store.durable import sync_names
from tests.faults.power import MAKE, Disk, powered
from tests.faults.save_child import KEEP, prune, save, saved, whole
from tests.faults.strace import Traced, traced

KINDS = [pytest.param(kind, marks=pytest.mark.needs(kind)) for kind in MAKE]
NUM_BYTES = 60_000  # a checkpoint spans blocks and is written in a few milliseconds
LONGEST_WAIT_S = 0.1  # several saves


class Writer:
    """The saving process: what it has announced, and how to hold it."""

    def __init__(self, checkpoints: Path, careless: str) -> None:
        argv = [sys.executable, "-m", "tests.faults.save_child", str(checkpoints), "1", "1000000"]
        self._process = subprocess.Popen([*argv, str(NUM_BYTES), careless], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._lines = b""

    def announced(self) -> int:
        """The last step that was announced; 0 when none was."""
        assert self._process.stdout is not None
        self._lines += self._process.stdout.read() or b""
        assert b"failed" not in self._lines, self._lines
        steps = re.findall(rb"durable (\d+)\n", self._lines)
        return int(steps[-1]) if steps else 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stopped within the block."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


class Found(NamedTuple):
    """What one power cut left: whether in the middle of a save, and what is wrong with it (empty: nothing)."""

    is_torn: bool
    wrong: str


def cut_power(disk: Disk, seed: int, careless: str = "") -> Generator[Found, None, None]:
    """What the disk would hold after a power cut, at one random moment after the other while a process saves."""
    draw = random.Random(seed)
    checkpoints = Path("runs", "a", "checkpoints")
    writer = Writer(disk.path / checkpoints, careless)
    try:
        while not writer.announced():
            time.sleep(0.001)
        while True:
            time.sleep(draw.uniform(0, LONGEST_WAIT_S))
            with writer.held():
                step = writer.announced()
                with disk.after_cut() as found:
                    is_torn = any(path.suffix == ".tmp" for path in (found / checkpoints).glob(".*"))
                    yield Found(is_torn, _wrong(found / checkpoints, step))
    finally:
        writer.kill()


def _wrong(checkpoints: Path, announced: int) -> str:
    steps = whole(checkpoints, NUM_BYTES)
    if not steps or steps[-1] < announced:
        return f"step {announced} was announced, {steps} are whole"
    if steps != saved(checkpoints) or len(steps) < min(KEEP, announced):
        return f"of {saved(checkpoints)} only {steps} are whole"
    # The run goes on: the next save completes, and nothing of the cut one stays.
    save(checkpoints, steps[-1] + 1, NUM_BYTES)
    prune(checkpoints)
    names = sorted(path.name for path in checkpoints.iterdir())
    is_clean = names == sorted(map(str, [*steps, steps[-1] + 1][-KEEP:]))
    return "" if is_clean else f"after the next save there are {names}"


def _check(folder: Path, kind: str, num_cuts: int) -> None:
    with powered(folder, kind) as disk, closing(cut_power(disk, seed=num_cuts)) as cuts:
        found = list(islice(cuts, num_cuts))
    assert [one.wrong for one in found if one.wrong] == []
    assert sum(one.is_torn for one in found) >= 0.2 * num_cuts, "too few cuts came in the middle of a save"


@pytest.mark.parametrize("kind", KINDS)
def test_fifty_power_cuts(tmp_path: Path, kind: str) -> None:
    """A2: At 50 random moments the newest whole checkpoint is at least the last announced; the run goes on from it."""
    _check(tmp_path, kind, 50)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_power_cuts(tmp_path: Path, kind: str) -> None:
    """A2: At 1,000 moments too."""
    _check(tmp_path, kind, 1000)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("careless", ["files", "names"])
def test_a_careless_writer_is_caught(tmp_path: Path, kind: str, careless: str) -> None:
    """A2: The cuts tell something: a writer that does not flush files, or not names, loses what it announced."""
    with powered(tmp_path, kind) as disk, closing(cut_power(disk, seed=3, careless=careless)) as cuts:
        assert any(found.wrong for found in islice(cuts, 300))  # at a slow disk one in fifteen tells


@pytest.mark.needs("strace")
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_killed_writer_left_is_flushed_before_it_is_built_on(tmp_path: Path, kind: str) -> None:
    """A2: Killed between giving a checkpoint its name and flushing it; taken over, announced, and the power fails."""
    save(tmp_path / "calm", 1)
    flushes = [call for call in _save_second(tmp_path / "calm").calls if call.name == "fsync"]
    with powered(tmp_path, kind) as disk:
        for takes_over in (False, True):
            checkpoints = Path(str(takes_over), "checkpoints")
            save(disk.path / checkpoints, 1)
            os.sync()
            assert _save_second(disk.path / checkpoints, flushes[-1].kill).returncode == -9
            assert whole(disk.path / checkpoints) == [1, 2]
            if takes_over:
                sync_names(disk.path / checkpoints)
            with disk.after_cut() as found:
                assert whole(found / checkpoints) == ([1, 2] if takes_over else [1])


def _save_second(checkpoints: Path, *faults: str) -> Traced:
    argv = ["-m", "tests.faults.save_child", str(checkpoints), "2", "2", "3000"]
    return traced(checkpoints.parent / "log", argv, *faults)
