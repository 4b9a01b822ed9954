"""Judging failures: is an error, or the end of a process, worth another try? And what to call it in words.

Errors of our own carry the answer in their class. For the operating system's there is a list. For a process that was
ended from outside there is only its exit code: the kernel kills for memory before Python can raise anything.
"""

from __future__ import annotations

import errno
import signal
from typing import Final

from corelane.core.errors import CorelaneError, InterruptedRunError
from corelane.machine.exit_codes import (
    EXIT_LOCKED,
    EXIT_NO_MEMORY,
    EXIT_OK,
    EXIT_RESUMABLE,
    EXIT_USER,
    EXIT_WOULD_REPEAT,
)

_EXIT_NOT_EXECUTABLE: Final = 126  # these two are the shell's
_EXIT_NOT_FOUND: Final = 127
_SIGNAL_EXIT_BASE: Final = 128  # shells and containers report death by signal n as 128 + n

_ASKED_TO_STOP = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})

_TRANSIENT_ERRNO = frozenset(
    {
        *(errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.EIO, errno.ESTALE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT),
        *(errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT, errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED),
        *(errno.EPIPE, errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    }
)


class HealthChecker:
    """Owns the judgement whether a failure may pass when tried again, and nothing else. It has no state."""

    def is_recoverable(self, error: BaseException) -> bool:
        """True when the same work may succeed if tried again.

        Our own errors say so by class (an interrupted run was asked to stop, so it is not tried again here); memory
        shortage, timeouts and the operating system's passing troubles are; all else is a mistake that would repeat.
        """
        if isinstance(error, CorelaneError):
            return error.transient and not isinstance(error, InterruptedRunError)
        if isinstance(error, OSError):
            return isinstance(error, TimeoutError) or error.errno in _TRANSIENT_ERRNO
        return isinstance(error, MemoryError)

    def is_recoverable_exit(self, returncode: int) -> bool:
        """True when a process that ended so should be started again.

        `returncode` as `subprocess` gives it (-9) or as shells do (137). Crashes and kills are: SIGKILL is what running
        out of memory looks like. Success, a user's error (2), one that would repeat (70), a run of another's (73),
        "resumable" (75), a missing program and a request to stop are not. Exit code 1 is a failure of unknown kind:
        worth the ration of restarts.
        """
        if (number := _signal_of(returncode)) is not None:
            return number not in _ASKED_TO_STOP
        return returncode not in _FINAL

    def is_orderly_exit(self, returncode: int) -> bool:
        """True when the process ended because it was done (0) or was asked to stop (75, SIGTERM, SIGINT...)."""
        return returncode in {EXIT_OK, EXIT_RESUMABLE} or _signal_of(returncode) in _ASKED_TO_STOP

    def explain_exit(self, returncode: int) -> str:
        """The exit code in words, with its likely cause."""
        if (number := _signal_of(returncode)) is not None:
            return f"ended by {_signal_name(number)}{_SIGNAL_HINTS.get(number, '')}"
        return _EXIT_WORDS.get(returncode, f"failed with exit code {returncode}")


def exit_status(returncode: int) -> int:
    """A child's return code as our own exit code: death by signal n becomes 128 + n."""
    return _SIGNAL_EXIT_BASE - returncode if returncode < 0 else returncode


_FINAL = {
    *(EXIT_OK, EXIT_USER, EXIT_WOULD_REPEAT, EXIT_LOCKED, EXIT_RESUMABLE),
    *(_EXIT_NOT_EXECUTABLE, _EXIT_NOT_FOUND),
}
_EXIT_WORDS = {
    EXIT_OK: "finished",
    EXIT_WOULD_REPEAT: "failed with an error that would repeat (exit code 70)",
    EXIT_NO_MEMORY: "was refused memory by the system (exit code 71)",
    EXIT_LOCKED: "another process trains the run (exit code 73)",
    EXIT_USER: "stopped at an error in its input or options (exit code 2)",
    EXIT_RESUMABLE: "stopped on request with its state saved (exit code 75); run it again with --resume",
    _EXIT_NOT_EXECUTABLE: "could not be started: the program is not executable (exit code 126)",
    _EXIT_NOT_FOUND: "could not be started: the program was not found (exit code 127)",
}
_SIGNAL_HINTS: dict[int, str] = {
    signal.SIGKILL: " (killed from outside; out of memory is the usual cause)",
    signal.SIGSEGV: " (a crash in native code)",
    signal.SIGABRT: " (a crash in native code)",
    signal.SIGBUS: " (a crash in native code, or a memory-mapped file that was cut short)",
    signal.SIGILL: " (an instruction this CPU does not have)",
    signal.SIGXCPU: " (its limit on CPU time)",
}


def _signal_of(returncode: int) -> int | None:
    if returncode < 0:
        return -returncode
    number = returncode - _SIGNAL_EXIT_BASE
    return number if number in signal.valid_signals() else None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have numbers only
        return f"signal {number}"
