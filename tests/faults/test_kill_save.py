"""SIGKILL right before every system call of a save and of the removal of older checkpoints (strace injects it).

A dry run lists the calls. Then, for one after the other, the same process is run again and killed at that call.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.save_sweep import STATES, Sweep

pytestmark = pytest.mark.needs("strace")

USED = {"first": {"openat", "write", "fsync", "rename", "mkdir", "flock"}, "full": {"unlink", "unlinkat", "rmdir"}}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("state", STATES)
def test_killed_at_every_call(tmp_path: Path, state: str) -> None:
    """A1, A8: Whichever call is the last one, what can be seen is whole, and nothing that was announced lacks."""
    sweep = Sweep(tmp_path, STATES[state])
    checkpoints, calm = sweep.run()
    assert calm.returncode == 0, calm.errors
    sweep.check(checkpoints, calm.output, "undisturbed")
    assert {call.name for call in calm.calls} >= USED[state]
    for index, call in enumerate(calm.calls):
        checkpoints, killed = sweep.run(call.kill, calls=(call.name, "writev"))
        before = [other for other in calm.calls[: index + 1] if other.name in (call.name, "writev")]
        assert killed.returncode == -9, call
        assert len(killed.calls) == len(before), f"the calls of a run are the same every time: {call}"
        sweep.check(checkpoints, killed.output, f"killed at {call}")
