"""Threads for runs that are too long for the event loop's own, and the shortest way there and back.

`concurrent.futures` would do the same through two futures and two turns of the event loop for each run; beside a
network that fills the caches, every line of Python on that way counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")


class Lanes(Generic[JobT, ResultT]):
    """Owns `num_threads` threads that take jobs in order, and nothing else.

    `work` is called in a thread, `done` with what it returned or raised in the event loop that gave the job.
    """

    def __init__(
        self,
        num_threads: int,
        name: str,
        work: Callable[[JobT], ResultT],
        done: Callable[[JobT, ResultT | BaseException], None],
    ) -> None:
        self._work = work
        self._done = done
        self._jobs: SimpleQueue[tuple[asyncio.AbstractEventLoop, JobT] | None] = SimpleQueue()
        self._threads = [
            Thread(target=self._take_jobs, name=f"{name}-{index}", daemon=True) for index in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, loop: asyncio.AbstractEventLoop, job: JobT) -> None:
        """Have `job` done as soon as a thread is free."""
        self._jobs.put((loop, job))

    def _take_jobs(self) -> None:
        while (taken := self._jobs.get()) is not None:
            loop, job = taken
            try:
                result: ResultT | BaseException = self._work(job)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to who gave the job
                result = error
            with suppress(RuntimeError):  # the event loop was closed meanwhile, and nobody waits any more
                loop.call_soon_threadsafe(self._done, job, result)

    def retire(self) -> None:
        """Let the threads end when the jobs that were given are done."""
        for _ in self._threads:
            self._jobs.put(None)

    def close(self) -> None:
        """Retire, and wait for it. May be called twice."""
        self.retire()
        for thread in self._threads:
            thread.join()
