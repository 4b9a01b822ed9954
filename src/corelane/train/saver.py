"""Who writes a checkpoint that has been copied: the calling thread at once, or a thread of its own behind it.

`writer.py` hands over jobs, one at a time; a job deals with its own errors. Writing releases the interpreter's lock
while it hashes and waits for the disk, so the training goes on meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

Job = Callable[[], None]


class Saver(Protocol):
    """Runs one job after the other."""

    @property
    def is_busy(self) -> bool:
        """Whether a job is not done yet."""
        ...

    def submit(self, job: Job) -> None:
        """Run `job` when the one before is done; returns early or not."""
        ...

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is left to do, at most `timeout_s`; whether that came about."""
        ...

    def close(self) -> None:
        """Take no more jobs. Does not wait: a job on a disk that hangs would never end."""
        ...


class InlineSaver:
    """Runs each job in the thread that submits it."""

    is_busy = False

    def submit(self, job: Job) -> None:
        """Run `job` now."""
        job()

    def wait(self, timeout_s: float | None = None) -> bool:  # noqa: ARG002
        """Nothing is ever left."""
        return True

    def close(self) -> None:
        """Nothing to do."""


class BackgroundSaver:
    """Owns one thread, which runs the jobs; `submit` waits only while a job before has not begun.

    The thread starts with the first job. It is a daemon: a disk that hangs does not keep the process from ending.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._job: Job | None = None
        self._is_running = False
        self._is_closed = False
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a job waits or runs."""
        with self._changed:
            return self._job is not None or self._is_running

    def submit(self, job: Job) -> None:
        """Hand `job` to the thread."""
        with self._changed:
            self._changed.wait_for(lambda: self._job is None)
            self._job = job
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="corelane-saver", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until no job waits or runs."""
        with self._changed:
            return self._changed.wait_for(lambda: self._job is None and not self._is_running, timeout_s)

    def close(self) -> None:
        """Let the thread end after the job that runs; join it when there is none."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            is_idle = self._job is None and not self._is_running
        if self._thread is not None and is_idle:
            self._thread.join()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                job()
            finally:
                with self._changed:
                    self._is_running = False
                    self._changed.notify_all()

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._job is not None or self._is_closed)
            job, self._job = self._job, None
            self._is_running = job is not None
            self._changed.notify_all()
            return job
