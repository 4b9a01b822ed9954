"""Where every thread of a hung trainer stands: it writes that down itself when the process that watches it asks.

`faulthandler` does it without the interpreter's lock, so also when that is what the threads wait for. The file is open
from the start, because a process in trouble may open none; a crash in native code leaves its stacks there too.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from corelane.core.clock import Clock

SIGNAL: Final = signal.SIGUSR1
WAIT_S: Final = 2.0  # a hundred threads are written in milliseconds; a machine without memory may take longer
_LOOK_S: Final = 0.05


def stacks_file(logs: Path, pid: int) -> Path:
    """Where process `pid` writes its stacks."""
    return logs / f"stacks-{pid}.txt"


@contextmanager
def stacks_on_request(logs: Path) -> Iterator[None]:
    """Inside, SIGUSR1 and crashes write this process's stacks into the folder `logs`; an empty file is removed."""
    path = stacks_file(logs, os.getpid())
    try:
        logs.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError:  # a full disk: a dump is not worth the training
        yield
        return
    with file:
        faulthandler.register(SIGNAL, file=file, all_threads=True)
        faulthandler.enable(file=file)
        try:
            yield
        finally:
            faulthandler.disable()
            faulthandler.unregister(SIGNAL)
    remove_if_empty(path)


def ask_for_stacks(pid: int, logs: Path, clock: Clock) -> Path | None:
    """Have process `pid` write its stacks, woken up if it was stopped; the file, or None when nothing came."""
    path = stacks_file(logs, pid)
    before = _size(path)
    for number in (SIGNAL, signal.SIGCONT):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    deadline_s, size = clock.monotonic() + WAIT_S, before
    while clock.monotonic() < deadline_s:
        clock.sleep(_LOOK_S)
        size, last = _size(path), size
        if size == last > before:
            return path
    return path if size > before else None


def remove_if_empty(path: Path) -> None:
    """Remove the file of a process that wrote no stacks."""
    with suppress(OSError):
        if path.stat().st_size == 0:
            path.unlink()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
