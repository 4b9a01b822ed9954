"""What the exit code of a process of ours says, to a user, to a service manager and to our own supervisor."""

from __future__ import annotations

from typing import Final

from corelane.core.errors import CorelaneError

EXIT_OK: Final = 0
EXIT_OURS: Final = 1  # our fault; Python's own, too, for an error that nobody caught
EXIT_USER: Final = 2  # the user's mistake
EXIT_WOULD_REPEAT: Final = 70  # EX_SOFTWARE: an error that the same work would raise again
EXIT_NO_MEMORY: Final = 71  # EX_OSERR: the system refused memory, and the process could still say so
EXIT_LOCKED: Final = 73  # EX_CANTCREAT: another process trains the run
EXIT_RESUMABLE: Final = 75  # EX_TEMPFAIL of sysexits.h: the run was asked to stop and has saved its state

# The rest follows the class: transient errors can be resumed, permanent ones are the user's to mend.
_BY_CODE = {
    "out_of_memory": EXIT_NO_MEMORY,
    **dict.fromkeys(("skew_detected", "golden_mismatch", "worker_lost", "trainer_failed", "crash_loop"), EXIT_OURS),
}


def exit_code(error: CorelaneError) -> int:
    """The exit code that stands for `error`."""
    return _BY_CODE.get(error.code, EXIT_RESUMABLE if error.transient else EXIT_USER)


def worker_exit_code(error: CorelaneError) -> int:
    """The exit code of a process that another one starts again: another than 1 where `error` would come again."""
    if error.code == "run_locked":
        return EXIT_LOCKED  # and nothing is left in the run, which is another's
    code = exit_code(error)
    return EXIT_WOULD_REPEAT if code == EXIT_OURS and not error.transient else code
