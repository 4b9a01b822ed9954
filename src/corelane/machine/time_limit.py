"""A limit on the time of a call that offers none itself, such as a compiler that is called through a library.

An exception is raised in the calling thread. It arrives between two lines of Python: a call into a library that takes
long is waited for first.
"""

from __future__ import annotations

import ctypes
import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

AGAIN_S = 1.0
"""An exception that arrives in a callback of the collector, or where a library takes everything, is lost: it is raised
again, not so soon that it would meet the one before on its way."""


class TimeLimitReached(BaseException):
    """The time of a `time_limit` was over. No `Exception`, so that a library that catches those does not go on."""


@contextmanager
def time_limit(limit_s: float) -> Iterator[None]:
    """Raise `TimeLimitReached` in this thread when what is inside takes more than `limit_s` seconds (inf: no limit)."""
    if math.isinf(limit_s):
        yield
        return
    thread, lock = threading.get_ident(), threading.Lock()
    caller = sys._getframe(2)
    is_inside = True

    def interrupt() -> None:
        wait_s = max(0.0, limit_s)
        while not is_over.wait(wait_s):
            with lock:
                if not is_inside or not _is_running(caller, thread):
                    return  # left, if by an exception that arrived on the way out
                _raise_in(thread, TimeLimitReached)
            wait_s = AGAIN_S

    is_over = threading.Event()
    timer = threading.Thread(target=interrupt, name="corelane-time-limit", daemon=True)
    timer.start()
    try:
        yield
    finally:
        is_left = False
        while not is_left:  # the exception may arrive here, too
            with suppress(TimeLimitReached), lock:
                is_inside = False
                _raise_in(thread, None)  # what was asked for in the last moment must not arrive outside
                is_left = True
        is_over.set()
        timer.join()


def _is_running(frame: FrameType, thread: int) -> bool:
    """Whether `frame` is among those that `thread` is in."""
    current = sys._current_frames().get(thread)
    while current is not None and current is not frame:
        current = current.f_back
    return current is frame


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    raised = ctypes.py_object(kind) if kind is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)
