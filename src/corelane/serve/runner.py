"""Where a model's batches are run: in which of its ways, on which thread, and what there is room for now.

A run that is shorter than handing it to a thread happens on the event loop's own; longer ones go to threads. How many
go on at a time, and on how many threads each, is the choice between the model's ways (`ways.py`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from corelane.core.clock import Clock
from corelane.machine.process import num_cpus
from corelane.model.candidate import Candidate
from corelane.serve.batch import RequestQueue
from corelane.serve.compute import BatchComputer, Results
from corelane.serve.lanes import Lanes
from corelane.serve.request import Request, Waiting
from corelane.serve.ways import ALONE_S, THREAD_HOP_S, Way, WayOpener

AHEAD_S = 0.01  # a run that is longer is not kept in line: who comes after it might have to be answered sooner
CLOSE_LOOK_S = 0.01  # between two looks whether the runs of a way that is used no more have ended


@dataclass(slots=True, eq=False)
class Run:
    """A run of `batch` in a thread: how, of how many rows, since when (monotonic)."""

    batch: Sequence[Waiting]
    way: Way
    num_rows: int
    began_s: float


class Runner:
    """Owns the ways of one model and the runs that go on, and nothing else; `queue` is what waits for it.

    `on_end` gets the results of a run in a thread, or what broke it, on the event loop's thread; `on_room` is told when
    there may be room for more. `has_pace` is whether the pace says how long a run takes. All methods are for the event
    loop's thread; only the computer is called elsewhere, as often at a time as the way has streams.
    """

    def __init__(
        self,
        name: str,
        opener: WayOpener,
        narrow: Way,
        queue: RequestQueue,
        computer: BatchComputer,
        clock: Clock,
        *,
        batch_size: int,
        has_pace: bool,
        on_end: Callable[[Run, Results | BaseException], None],
        on_room: Callable[[], None],
    ) -> None:
        self._name = name
        self._opener = opener
        self._queue = queue
        self._computer = computer
        self._monotonic = clock.monotonic
        self._batch_size = batch_size
        self._on_end = on_end
        self._on_room = on_room
        self._hop_s = THREAD_HOP_S if has_pace else -math.inf
        self._alone_s = ALONE_S if has_pace and num_cpus() == 1 else -math.inf
        self.narrow = narrow
        """How a batch is run that is alone."""
        self.wide: Way | None = None
        """How batches are run beside each other, where that is another way."""
        self._retired: list[Way] = []  # used no more, and still open
        self._runs: dict[Run, None] = {}  # in threads, in the order in which they began
        self._free_threads = 0
        self._lanes: Lanes[Run, Results] | None = None
        self._use(narrow, None)

    # --- its ways -----------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> Way:
        """The way of much work."""
        return self.narrow if self.wide is None else self.wide

    async def adopt(self, candidate: Candidate) -> None:
        """See `ModelServer.adopt`."""
        loop = asyncio.get_running_loop()
        narrow = await loop.run_in_executor(None, self._opener.opened, candidate)
        wide = await loop.run_in_executor(None, self._opener.beside, narrow)
        self._retired += [way for way in (self.narrow, self.wide) if way is not None]
        self._use(narrow, wide)
        for way in tuple(self._retired):
            while way.num_runs:
                await asyncio.sleep(CLOSE_LOOK_S)
            await loop.run_in_executor(None, way.close)
            self._retired.remove(way)

    def widen(self, num_threads: int) -> None:
        """See `ModelServer.widen`."""
        candidate = self.narrow.candidate
        if candidate.threads == 1 and candidate.runtime == "onnxruntime" and candidate.streams != num_threads:
            self.narrow.candidate = replace(candidate, streams=num_threads)
            self._use(self.narrow, self.wide)

    def _use(self, narrow: Way, wide: Way | None) -> None:
        """Run in these ways from now on."""
        self.narrow, self.wide = narrow, wide
        num_threads = narrow.candidate.num_threads
        self._free_threads = num_threads - sum([run.way.candidate.threads for run in self._runs])
        if self._lanes is not None:
            self._lanes.retire()
        self._lanes = Lanes(num_threads, f"run-{self._name}", self._compute_run, self._ended)
        self._computer.allow(num_threads + len(self._runs))
        self._on_room()

    # --- what there is room for ---------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether no run goes on in a thread."""
        return not self._runs

    def running_s(self) -> float:
        """Seconds since the longest of the runs in threads began; 0 while none is there."""
        return max((self._monotonic() - run.began_s for run in self._runs), default=0.0)

    def drain_s(self, num_rows: int) -> float:
        """Seconds in which `num_rows` rows that wait are run, as many at a time as may be."""
        way = self.busy
        return way.tail.drain_s(num_rows) / (1 if self.is_inline(way, self._batch_size) else way.candidate.streams)

    def busy_s(self, now_s: float) -> float:
        """Seconds until a thread is free for another run."""
        if self._free_threads >= self.busy.candidate.threads:
            return 0.0
        left_s = [run.way.tail.expected_s(run.num_rows) - (now_s - run.began_s) for run in self._runs]
        return max(0.0, min(left_s))

    def is_inline(self, way: Way, num_rows: int) -> bool:
        """Whether a run of `num_rows` rows stays on the event loop's thread."""
        if self.is_short(way, num_rows):
            return True
        return way.candidate.num_threads == 1 and way.tail.expected_s(num_rows) <= self._alone_s

    def is_short(self, way: Way, num_rows: int) -> bool:
        """Whether a run of `num_rows` rows takes less time than handing it to a thread and back."""
        return way.pace.expected_s(num_rows) <= self._hop_s

    def way(self) -> Way | None:
        """How the next batch is run: alone on all threads, beside others on one, or not now (None)."""
        narrow, wide = self.narrow, self.wide
        if self._free_threads <= 0:
            return self.busy if self._may_be_ahead() else None
        if wide is None:
            return narrow if self._free_threads >= narrow.candidate.threads else None
        if self._free_threads < narrow.candidate.num_threads:
            return wide
        num_rows, num_waiting = self._queue.num_rows, len(self._queue.waiting)
        if num_waiting < 2:
            return narrow
        share = min(math.ceil(num_rows / min(wide.candidate.streams, num_waiting)), wide.paying_rows)
        whole = min(num_rows, narrow.paying_rows)
        return wide if wide.rows_per_s(share) > narrow.rows_per_s(whole) else narrow

    def _may_be_ahead(self) -> bool:
        """Whether one more run may wait in line for a thread, which then has no need to wait for the event loop: where
        the way there and back is not little beside a run.
        """
        way, most = self.busy, self.narrow.candidate.num_threads
        if way.candidate.threads > 1 or len(self._runs) != most or not self._queue.waiting:
            return False
        num_rows = min(self._queue.waiting[0][1].num_rows, self._batch_size)
        return way.tail.expected_s(num_rows) < AHEAD_S

    def share(self, way: Way, num_requests: int) -> int:
        """How many of the first `num_requests` make up one run, so that others may go on beside it: no more rows than
        the free threads have each, or than pay.
        """
        queue = self._queue
        if way.candidate.num_threads == 1 or self.is_inline(way, queue.num_rows):
            return num_requests
        num_free = max(1, self._free_threads // way.candidate.threads)
        most = min(math.ceil(queue.num_rows / num_free), way.paying_rows)
        num_rows = 0
        for count in range(num_requests):
            num_rows += queue.waiting[count][1].num_rows
            if num_rows > most:
                return max(count, 1)
        return num_requests

    # --- running ------------------------------------------------------------------------------------------------------

    def compute(self, requests: Sequence[Request], way: Way) -> Results:
        """A run on this thread."""
        return self._computer.compute(requests, way)

    def begin(self, run: Run) -> None:
        """A run in a thread; `on_end` is called at its end."""
        self._runs[run] = None
        run.way.num_runs += 1
        self._free_threads -= run.way.candidate.threads
        if self._lanes is not None:
            self._lanes.submit(asyncio.get_running_loop(), run)

    def _compute_run(self, run: Run) -> Results:
        run.began_s = self._monotonic()
        return self._computer.compute([request for _, request, _ in run.batch], run.way)

    def _ended(self, run: Run, results: Results | BaseException) -> None:
        del self._runs[run]
        run.way.num_runs -= 1
        self._free_threads += run.way.candidate.threads
        self._on_end(run, results)

    def close(self) -> None:
        """Wait for runs to end and release the runtimes. May be called twice."""
        if self._lanes is not None:
            self._lanes.close()
        self._computer.close()
        for way in (self.narrow, self.wide, *self._retired):
            if way is not None:
                way.close()
