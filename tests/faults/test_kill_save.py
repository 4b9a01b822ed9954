"""SIGKILL right before every system call of a save and of the removal of older checkpoints (strace injects it).

A dry run lists the calls. Then, for one after the other, the same process is run again and killed at that call. Every
checkpoint that can be seen must be whole and hold its own bytes, what was announced must be there, enough older ones
must be left, and the next save must complete and clear away what the killed one left.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.faults.save_child import KEEP, prune, save, saved, whole
from tests.faults.strace import Traced, traced

pytestmark = pytest.mark.needs("strace")

STATES = {"first": [], "full": [1, 2, 3]}
"""The steps that have a checkpoint before: none, and no directory for them; as many as are kept, so that one goes."""

USED = {"first": {"openat", "write", "fsync", "rename", "mkdir", "flock"}, "full": {"unlink", "unlinkat", "rmdir"}}


class Sweep:
    """Runs the child on copies of a folder that has checkpoints of some steps; it saves the next one."""

    def __init__(self, folder: Path, older: list[int]) -> None:
        self._folder, self._older = folder, older
        self._start = folder / "start"
        self._start.mkdir()
        for step in older:
            save(self._start / "run" / "checkpoints", step)

    def run(self, *faults: str) -> tuple[Path, Traced]:
        """The checkpoints after a run of the child under `faults`, and how it ended."""
        copy = self._folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self._start, copy)
        checkpoints = copy / "run" / "checkpoints"
        step = str(self._next)
        argv = ["-m", "tests.faults.save_child", str(checkpoints), step, step, "3000"]
        return checkpoints, traced(self._folder / "log", argv, *faults)

    def check(self, checkpoints: Path, announced: str) -> None:
        """What must hold after any end of a child that had printed `announced`, the next save included."""
        steps = whole(checkpoints)
        assert steps == saved(checkpoints), "a checkpoint can be seen that is not whole"
        assert len(steps) >= len(self._older)
        assert steps[-1:] == [self._next] or f"durable {self._next}" not in announced
        if self._next not in steps:
            assert steps == self._older
            save(checkpoints, self._next)
        save(checkpoints, self._next + 1)
        prune(checkpoints)
        assert whole(checkpoints) == [*self._older, self._next, self._next + 1][-KEEP:]
        assert [path.name for path in checkpoints.iterdir() if not path.name.isdecimal()] == [], "leftovers stayed"

    @property
    def _next(self) -> int:
        return len(self._older) + 1


@pytest.mark.timeout(180)
@pytest.mark.parametrize("state", STATES)
def test_killed_at_every_call(tmp_path: Path, state: str) -> None:
    """A1, A8: Whichever call is the last one, what can be seen is whole, and nothing that was announced lacks."""
    sweep = Sweep(tmp_path, STATES[state])
    checkpoints, calm = sweep.run()
    assert calm.returncode == 0, calm.errors
    sweep.check(checkpoints, calm.output)
    assert {call.name for call in calm.calls} >= USED[state]
    for index, call in enumerate(calm.calls):
        checkpoints, killed = sweep.run(call.kill)
        assert killed.returncode == -9, call
        assert len(killed.calls) == index + 1, f"the calls of a run are the same every time: {call}"
        sweep.check(checkpoints, killed.output)
