"""`HealthChecker` tells passing trouble from mistakes, by the error where there is one and by the exit code else."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys

import pytest

from corelane.core.errors import (
    BundleError,
    ConfigError,
    DiskFullError,
    InterruptedRunError,
    MemoryBudgetError,
    SourceReadError,
)
from corelane.machine.health import HealthChecker, exit_status

HEALTH = HealthChecker()


@pytest.mark.parametrize(
    "error",
    [
        SourceReadError("dropped"),
        DiskFullError("full"),
        MemoryBudgetError("no room"),
        MemoryError(),
        TimeoutError("late"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        OSError(errno.EIO, "disk"),
        OSError(errno.ENOSPC, "full"),
    ],
    ids=repr,
)
def test_passing_trouble_is_recoverable(error: BaseException) -> None:
    """What may have gone a moment later is worth another try."""
    assert HEALTH.is_recoverable(error)


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("wrong"),
        BundleError("torn"),
        InterruptedRunError("asked to stop"),
        FileNotFoundError(errno.ENOENT, "missing"),
        PermissionError(errno.EACCES, "forbidden"),
        ValueError("a bug"),
        RuntimeError("a bug"),
        KeyboardInterrupt(),
        SystemExit(1),
    ],
    ids=repr,
)
def test_mistakes_and_requests_to_stop_are_not(error: BaseException) -> None:
    """What would happen again, and what somebody asked for, is not tried again."""
    assert not HEALTH.is_recoverable(error)


@pytest.mark.parametrize("returncode", [-9, 137, -11, 139, -6, 134, -7, 1, 3, 255])
def test_crashes_kills_and_our_own_failures_are_recoverable(returncode: int) -> None:
    """SIGKILL is what running out of memory looks like; native crashes and exit 1 deserve the ration."""
    assert HEALTH.is_recoverable_exit(returncode)
    assert not HEALTH.is_orderly_exit(returncode)


@pytest.mark.parametrize("returncode", [0, 75, -2, 130, -15, 143, -1, 129])
def test_done_resumable_and_asked_to_stop_are_orderly_ends(returncode: int) -> None:
    """These are no failures, so nothing is to be recovered."""
    assert HEALTH.is_orderly_exit(returncode)
    assert not HEALTH.is_recoverable_exit(returncode)


@pytest.mark.parametrize("returncode", [2, 126, 127])
def test_the_users_errors_and_missing_programs_are_final(returncode: int) -> None:
    """Neither orderly nor recoverable: they would end the same way again."""
    assert not HEALTH.is_recoverable_exit(returncode)
    assert not HEALTH.is_orderly_exit(returncode)


@pytest.mark.parametrize(
    ("returncode", "words"),
    [
        (0, "finished"),
        (1, "failed with exit code 1"),
        (2, "error in its input or options"),
        (75, "--resume"),
        (127, "not found"),
        (-9, "SIGKILL (killed from outside; out of memory"),
        (137, "SIGKILL (killed from outside; out of memory"),
        (-11, "SIGSEGV (a crash in native code)"),
        (-15, "ended by SIGTERM"),
        (-40, "ended by signal 40"),
    ],
)
def test_an_exit_is_explained_in_words(returncode: int, words: str) -> None:
    """The likely cause stands beside the number."""
    assert words in HEALTH.explain_exit(returncode)


def test_a_real_death_by_signal_is_read_right() -> None:
    """What `subprocess` reports for a process that killed itself is judged and passed on as shells do."""
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    returncode = subprocess.run([sys.executable, "-S", "-c", program], check=False).returncode
    assert returncode == -signal.SIGKILL
    assert HEALTH.is_recoverable_exit(returncode)
    assert exit_status(returncode) == 137


def test_exit_status_keeps_codes_that_are_none_of_a_signal() -> None:
    """Only negative codes change."""
    assert [exit_status(code) for code in (0, 1, 75, -15)] == [0, 1, 75, 143]
