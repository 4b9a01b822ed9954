"""Where finished log lines go: a file of JSON lines, and the terminal. Neither raises for a disk or pipe that fails.

A line that cannot be written is counted and dropped; the next line that can be written is preceded by one that says
how many were lost. Used by `log.py`.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from corelane.core.errors import ConfigError

# These pass: the disk may be cleared. Anything else at the opening of a log file is a mistake of whoever named the
# path.
_DISK_IS_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE})


class FileSink:
    """Appends lines to one file, each with a single write (so several processes may share it). Safe between threads.

    `announce(num_lost)` returns the line that reports lost ones; `dropped(error)` is called for each line that is lost,
    without the lock. Raises `ConfigError` at construction when the file cannot be opened for another reason than a
    full disk.
    """

    def __init__(self, path: Path, announce: Callable[[int], str], dropped: Callable[[OSError], None]) -> None:
        self._path = path
        self._announce = announce
        self._dropped = dropped
        self._lock = threading.RLock()  # reentrant: a signal handler may log while the main thread is writing
        self._descriptor: int | None = None
        self._num_lost = 0  # since the last line that was written
        self._is_torn = False  # the file ends with a part of a line
        self._is_closed = False
        try:
            self._open()
        except OSError as error:
            if error.errno not in _DISK_IS_FULL:
                raise ConfigError(f"the log file must be writable, got {error}; name another directory") from error

    def write(self, line: str) -> None:
        """Append `line` (without its line break), or count it as lost."""
        try:
            with self._lock:
                if not self._is_closed:
                    self._append(line)
        except OSError as error:
            self._dropped(error)

    def close(self) -> None:
        """Close the file; later lines are ignored. May be called twice."""
        with self._lock:
            self._is_closed = True
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _append(self, line: str) -> None:
        note = f"{self._announce(self._num_lost)}\n" if self._num_lost else ""
        data = f"{chr(10) if self._is_torn else ''}{note}{line}\n".encode()
        self._num_lost += 1  # until proven otherwise
        written = os.write(self._open(), data)
        if written < len(data):
            self._is_torn = True
            raise OSError(errno.ENOSPC, "only a part of the line could be written")
        self._is_torn = False
        self._num_lost = 0

    def _open(self) -> int:
        if self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        return self._descriptor


class TerminalSink:
    """Writes lines to `stream`, or to what `sys.stderr` is at that moment (a progress bar replaces it while shown)."""

    def __init__(self, stream: TextIO | None, dropped: Callable[[OSError], None]) -> None:
        self._stream = stream
        self._dropped = dropped

    @property
    def is_terminal(self) -> bool:
        """Whether a person is likely to be looking."""
        stream = self._stream or sys.stderr
        return stream is not None and not stream.closed and stream.isatty()

    def write(self, line: str) -> None:
        """Write `line` and flush it, or count it as lost."""
        stream = self._stream or sys.stderr
        if stream is None:  # a process started without standard error
            return
        try:
            stream.write(line + "\n")
            stream.flush()
        except OSError as error:
            self._dropped(error)
        except ValueError as error:  # the stream is closed, or its encoding lacks a character
            self._dropped(OSError(errno.EBADF, str(error)))
