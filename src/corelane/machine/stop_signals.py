"""Requests to stop that come as signals: the first sets a flag, the next one leaves.

Whoever trains asks the flag between two steps, saves and stops. A handler does nothing but note the signal: it may run
in the middle of anything, so it takes no lock, logs nothing and raises nothing. A second request is handed to the
handling that was there before: a command's leaves the process at once, Python's own raises `KeyboardInterrupt`.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final, Self, TypeAlias

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""A stop, a Ctrl-C, and a terminal or an SSH session that was closed."""

# systemd and Slurm send SIGTERM to every process of a job at once, and our parent passes its own on: what comes within
# a second of the first is the same request.
AGAIN_S: Final = 1.0

Handling: TypeAlias = Callable[[int, FrameType | None], Any] | int | None


class StopSignals:
    """Owns the handling of `STOP_SIGNALS` while entered, and nothing else. Outside the main thread it has none.

    A SIGHUP that was ignored before stays so: `nohup` lets a run go on without its terminal.
    With `keeps_second` the second request is left to whoever looks at `is_urgent`, else to the earlier handling.
    """

    def __init__(self, *, keeps_second: bool = False) -> None:
        self._keeps_second = keeps_second
        self._first_s: float | None = None
        self._is_urgent = False
        self._previous: dict[int, Handling] = {}

    def is_asked(self) -> bool:
        """Whether a request to stop has come."""
        return self._first_s is not None

    def is_urgent(self) -> bool:
        """Whether a second one has come: leave now."""
        return self._is_urgent

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in heard_signals()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handling in self._previous.items():
            signal.signal(number, handling)
        self._previous = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        now_s = time.monotonic()  # not a `Clock`: signals come in real time
        if self._first_s is None:
            self._first_s = now_s
        elif now_s - self._first_s >= AGAIN_S:
            self._is_urgent = True
            if not self._keeps_second:
                self._hand_on(number, frame)

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        handling = self._previous[number]
        if callable(handling):
            handling(number, frame)
        elif handling != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def heard_signals() -> list[signal.Signals]:
    """Those of `STOP_SIGNALS` to handle: a SIGHUP that whoever started us has ignored is none."""
    is_deaf = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in STOP_SIGNALS if not (is_deaf and number == signal.SIGHUP)]


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Whether one of `STOP_SIGNALS` has come, to be asked between two steps."""
    with StopSignals() as signals:
        yield signals.is_asked
