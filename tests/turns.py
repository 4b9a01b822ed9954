"""Turns of test processes that run side by side: many tests at once, or one alone.

The locks are advisory (flock) and end with their process. Whoever wants to be alone keeps the gate shut, so that those
who go on come to an end and nobody begins.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(folder: Path, *, is_alone: bool) -> Iterator[None]:
    """Beside others, or alone, among all processes that call this with `folder`."""
    with (folder / "gate").open("a") as gate, (folder / "turn").open("a") as turns:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(turns, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH)
        if not is_alone:
            fcntl.flock(gate, fcntl.LOCK_UN)
        yield
