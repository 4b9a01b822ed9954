"""What runs in a new child between fork and its program: tie its life to the parent's, pin it, then become the program.

`child.py` starts a bare interpreter with this module alone on its path, so it imports nothing but the standard library.
Doing this in a program of its own, and not between fork and exec in the parent, is what makes it safe in a parent with
threads. What is set here survives the exec: the death signal, and the CPU mask before the program makes any thread.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def launch(parent: int, cpus: Sequence[int], argv: list[str]) -> NoReturn:
    """Become `argv`, to be killed when the process `parent` dies, on `cpus` only unless there are none named.

    Exits as shells do when the program cannot be run: 127 not found, 126 otherwise; with 2 when the CPUs are not there.
    """
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # the interpreter ignores them, and an exec would pass that on
        signal.signal(ignored, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the signal was asked for
        os._exit(128 + signal.SIGKILL)
    try:
        if cpus:
            os.sched_setaffinity(0, cpus)
    except OSError as error:
        _fail(
            2, f"the CPUs of {argv[0]} must be usable here, got {sorted(cpus)} ({error.strerror}); see corelane doctor"
        )
    try:
        os.execvp(argv[0], argv)  # noqa: S606 (no shell is wanted)
    except FileNotFoundError:
        _fail(127, f"the program must exist, got {argv[0]!r}")
    except OSError as error:
        _fail(126, f"the program must be executable, got {argv[0]!r} ({error.strerror})")


def _fail(status: int, message: str) -> NoReturn:
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()
    os._exit(status)
