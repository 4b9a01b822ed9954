"""The operating system's refusals in our words: no memory, no file descriptors, no threads, no room on a disk.

They reach us as errors of many classes from many libraries; a process that trains or serves turns what ended it into
an error that says what to raise or free.
"""

from __future__ import annotations

import errno
import resource
from typing import Final

from corelane.core.errors import CorelaneError, DiskFullError, OutOfMemoryError, SystemLimitError

_OPEN_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE})
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_MEMORY_WORDS: Final = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")
_NO_THREAD_WORDS: Final = ("can't start new thread", "Resource temporarily unavailable")


def limit_reached(error: BaseException) -> CorelaneError | None:
    """`error`, or what caused it, as an error of ours when a limit of the system is behind it; None for all others."""
    cause: BaseException | None = error
    while cause is not None:
        if (found := _judge(cause)) is not None:
            return found
        cause = cause.__cause__ or cause.__context__
    return None


def _judge(error: BaseException) -> CorelaneError | None:
    text = str(error)
    if isinstance(error, MemoryError) or _is_errno(error, {errno.ENOMEM}) or _has(text, _NO_MEMORY_WORDS):
        return OutOfMemoryError("the system must have memory left, got none; free some, or use less", detail=text)
    if _is_errno(error, _OPEN_FILES) or "Too many open files" in text:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return SystemLimitError(
            f"the limit on open files must be higher, got {soft}; raise it (ulimit -n 4096) and run again", detail=text
        )
    if isinstance(error, RuntimeError | BlockingIOError) and _has(text, _NO_THREAD_WORDS):
        soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
        return SystemLimitError(
            f"the limit on processes and threads must be higher, got {soft}; raise it (ulimit -u, or pids.max of the "
            "control group) and run again, or set machine.threads lower",
            detail=text,
        )
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        where = f" for {error.filename}" if error.filename else ""
        return DiskFullError(f"the disk must have room{where}, got none left; free some and run again", detail=text)
    return None


def _is_errno(error: BaseException, numbers: set[int] | frozenset[int]) -> bool:
    return isinstance(error, OSError) and error.errno in numbers


def _has(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text for word in words)
