"""The system's refusals are told in words, whatever library met them; other errors are left alone."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys

import pytest

from corelane.core.errors import CorelaneError, DiskFullError, OutOfMemoryError, SystemLimitError
from corelane.machine.limits import limit_reached


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (MemoryError(), OutOfMemoryError, "memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), OutOfMemoryError, "memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), OutOfMemoryError, "mem"),
        (OSError(errno.EMFILE, "Too many open files"), SystemLimitError, "ulimit -n"),
        (RuntimeError("can't start new thread"), SystemLimitError, "ulimit -u"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), DiskFullError, "a/b"),
    ],
    ids=repr,
)
def test_a_limit_is_named_with_its_remedy(error: BaseException, kind: type[CorelaneError], words: str) -> None:
    """Each says what to raise or free, and keeps the system's words for the log."""
    found = limit_reached(error)
    assert type(found) is kind
    assert words in found.message
    assert found.detail == str(error)


def test_a_cause_counts_too() -> None:
    """A library's own error around the system's is the system's."""
    error = ValueError("could not open")
    error.__cause__ = OSError(errno.EMFILE, "Too many open files")
    assert isinstance(limit_reached(error), SystemLimitError)


@pytest.mark.parametrize("error", [ValueError("a mistake"), RuntimeError("a mistake"), OSError(errno.EIO, "disk")])
def test_other_errors_are_left_alone(error: BaseException) -> None:
    """None: they mean what they say."""
    assert limit_reached(error) is None


def test_real_refusals_are_known() -> None:
    """A process without room for files, and torch without room for memory."""
    script = (
        "import resource, torch; from corelane.machine.limits import limit_reached\n"
        "try: torch.empty(1 << 50)\n"
        "except RuntimeError as error: print(type(limit_reached(error)).__name__)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))\n"
        "try: files = [open('/dev/null') for _ in range(20)]\n"
        "except OSError as error: print(type(limit_reached(error)).__name__)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["OutOfMemoryError", "SystemLimitError"]
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 16
