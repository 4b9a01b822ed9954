"""The saving child under one fault after the other, and what must hold after each.

The faults are of `strace.py`, the child is `save_child.py`; the tests choose the faults.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.faults.save_child import KEEP, prune, save, saved, whole
from tests.faults.strace import CHANGES, Traced, traced

STATES = {"first": [], "full": [1, 2, 3]}
"""The steps that have a checkpoint before: none, and no directory for them; as many as are kept, so that one goes."""


class Sweep:
    """Runs the child on copies of a folder that has checkpoints of the steps `older`; it saves the next `num_saves`."""

    def __init__(self, folder: Path, older: list[int], num_saves: int = 1) -> None:
        self._folder, self._older = folder, older
        self._first, self._last = len(older) + 1, len(older) + num_saves
        self._start = folder / "start"
        self._start.mkdir()
        for step in older:
            save(self._start / "run" / "checkpoints", step)

    def run(self, *faults: str, calls: Sequence[str] = CHANGES) -> tuple[Path, Traced]:
        """The checkpoints after a run of the child under `faults`, and how it ended."""
        copy = self._folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self._start, copy)
        checkpoints = copy / "run" / "checkpoints"
        argv = ["-m", "tests.faults.save_child", str(checkpoints), str(self._first), str(self._last), "3000"]
        return checkpoints, traced(self._folder / "log", argv, *faults, calls=calls)

    def check(self, checkpoints: Path, output: str, where: str) -> None:
        """What must hold after any end of a child (`where` in words) that had printed `output`.

        What can be seen is whole with its own bytes, what was announced is there, what failed is not, no fewer than
        before are left, and the next save completes and clears away what is left over.
        """
        steps = whole(checkpoints)
        assert steps == saved(checkpoints), f"a checkpoint can be seen that is not whole: {where}"
        assert len(steps) >= len(self._older), f"fewer checkpoints than before: {where}"
        durable, failed = _told("durable", output), _told("failed", output)
        assert set(durable) <= set(steps), f"an announced checkpoint lacks: {where}"
        assert not set(failed) & set(steps), f"a save that failed left a checkpoint: {where}"
        following = range(steps[-1] + 1 if steps else 1, self._last + 2)
        for step in following:
            save(checkpoints, step)
        prune(checkpoints)
        assert whole(checkpoints) == [*steps, *following][-KEEP:], where
        left = [path.name for path in checkpoints.iterdir() if not path.name.isdecimal()]
        assert left == [], f"leftovers stayed: {where}"


def _told(what: str, output: str) -> list[int]:
    return [int(step) for step in re.findall(rf"^{what} (\d+)", output, re.MULTILINE)]
