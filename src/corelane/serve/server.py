"""`ModelServer`: one model, its queue, and the loop that turns waiting requests into batches, runs and answers.

It is neutral to protocols: `http.py` translates requests into `Request`s. A run that is shorter than handing it to a
thread happens inline, with everything that arrived in the same turn of the event loop as one batch; longer runs go to
threads of their own, and what arrives meanwhile makes up the next batches. How many runs go on at a time, and on how
many threads each, is the choice between its ways (`ways.py`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import NotReadyError, OverloadedError
from corelane.data.tensor_pipeline import TensorPipeline
from corelane.machine.memory import MemoryManager
from corelane.model.candidate import SAFE, Candidate
from corelane.model.package import ModelPackage
from corelane.model.predictor import Predictor
from corelane.observe.metrics import MetricsCollector
from corelane.serve.batch import BatchProcessor, RequestQueue, Take
from corelane.serve.compute import BatchComputer, Results
from corelane.serve.config import ServeConfig
from corelane.serve.deadlines import in_time, without_late
from corelane.serve.lanes import Lanes
from corelane.serve.pace import MAX_RETRY_AFTER_S, Pace
from corelane.serve.parts import InParts
from corelane.serve.request import Deliver, Receipt, Request, Response, Waiting
from corelane.serve.slo import Slo
from corelane.serve.slowest import Slowest, SlowRequest
from corelane.serve.tail import QUANTILE
from corelane.serve.ways import ALONE_S, THREAD_HOP_S, Way, WayOpener

AHEAD_S = 0.01  # a run that is longer is not kept in line: who comes after it might have to be answered sooner
CLOSE_LOOK_S = 0.01  # between two looks whether the runs of a way that is used no more have ended


@dataclass(slots=True, eq=False)
class _Run:
    """A run of `batch` in a thread: how, of how many rows, since when (monotonic)."""

    batch: Sequence[Waiting]
    way: Way
    num_rows: int
    began_s: float


class ModelServer:
    """Owns one loaded package, its queue and its runs. `serve` must be running while requests are submitted.

    Loading verifies the package, runs its golden rows and measures how long runs take. Its graph and the queue's bound
    are reserved in `memory`; the latter not where the caller has done it, for a model of which one version follows
    another. `shared` is a folder in which the workers of a server share weights. Raises `BundleError`, `GoldenError`
    and `MemoryBudgetError`. All methods are for the event loop's thread; only the computer is called elsewhere, as
    often at a time as the way has streams.
    """

    def __init__(
        self,
        model_path: Path,
        config: ServeConfig,
        *,
        metrics: MetricsCollector | None = None,
        clock: Clock | None = None,
        memory: MemoryManager | None = None,
        is_queue_reserved: bool = False,
        shared: Path | None = None,
    ) -> None:
        self.config = config
        self.model = ModelPackage.load(model_path)
        memory = memory or MemoryManager()
        clock = clock or SystemClock()
        self._slo = Slo.parse(config.slo) if config.slo else None
        quantile = QUANTILE if self._slo is None else self._slo.quantile
        self._opener = WayOpener(
            self.model, memory, clock, batch_size=config.batch_size, quantile=quantile, shared=shared
        )
        with ExitStack() as reserved:  # given back where opening fails
            reserved.enter_context(memory.reserve(self.model.num_bytes, "model"))
            if not is_queue_reserved:
                reserved.enter_context(memory.reserve(config.queue_bytes, "data"))
            self._narrow = self._opener.opened(replace(SAFE, threads=config.threads))
            self._reserved = reserved.pop_all()
        self._wide: Way | None = None
        self._retired: list[Way] = []  # used no more, and still open
        # Where a length is free, the pace was measured at another one: such rows never stay on the event loop's thread.
        pipeline = self.model.pipeline
        is_free = isinstance(pipeline, TensorPipeline) and bool(pipeline.free)
        self._hop_s, self._alone_s = (-math.inf, -math.inf) if is_free else (THREAD_HOP_S, ALONE_S)
        self.request_queue = RequestQueue(config.queue_size, config.queue_bytes)
        self._monotonic = clock.monotonic
        self.batch_processor = BatchProcessor(config.batch_size, delay_s=config.batch_delay_s, clock=clock)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._broken: asyncio.Future[None] | None = None
        self._is_turn_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._runs: dict[_Run, None] = {}  # in threads, in the order in which they began
        self._free_threads = 0
        self._lanes: Lanes[_Run, Results] | None = None
        meter = (metrics or MetricsCollector()).batch_meter(self.model.name)
        self._computer = BatchComputer(memory, config.batch_size, meter, clock)
        self._use(self._narrow, None)
        self.slowest = Slowest()

    # --- how it runs --------------------------------------------------------------------------------------------------

    @property
    def candidate(self) -> Candidate:
        """How a batch is run that is alone."""
        return self._narrow.candidate

    @property
    def predictor(self) -> Predictor:
        """What runs it."""
        return self._narrow.predictor

    @property
    def pace(self) -> Pace:
        """How long such runs take, as measured when the package was opened."""
        return self._narrow.pace

    @pace.setter
    def pace(self, pace: Pace) -> None:
        self._narrow.pace = pace

    @property
    def _busy(self) -> Way:
        """The way of much work."""
        return self._narrow if self._wide is None else self._wide

    async def adopt(self, candidate: Candidate) -> None:
        """Run as `candidate` says from now on; requests go on meanwhile, and a run that has begun ends as it began.

        Raises `BundleError`, `GoldenError` and what opening its runtime raises; then nothing has changed.
        """
        loop = asyncio.get_running_loop()
        narrow = await loop.run_in_executor(None, self._opener.opened, candidate)
        wide = await loop.run_in_executor(None, self._opener.beside, narrow)
        self._retired += [way for way in (self._narrow, self._wide) if way is not None]
        self._use(narrow, wide)
        for way in tuple(self._retired):
            while way.num_runs:
                await asyncio.sleep(CLOSE_LOOK_S)
            await loop.run_in_executor(None, way.close)
            self._retired.remove(way)

    def widen(self, num_threads: int) -> None:
        """Have so many runs at a time, where each takes one thread: a session of one thread is anybody's."""
        candidate = self._narrow.candidate
        if candidate.threads == 1 and candidate.runtime == "onnxruntime" and candidate.streams != num_threads:
            self._narrow.candidate = replace(candidate, streams=num_threads)
            self._use(self._narrow, self._wide)

    def _use(self, narrow: Way, wide: Way | None) -> None:
        """Run in these ways from now on."""
        self._narrow, self._wide = narrow, wide
        num_threads = narrow.candidate.num_threads
        self._free_threads = num_threads - sum([run.way.candidate.threads for run in self._runs])
        if self._lanes is not None:
            self._lanes.retire()
        self._lanes = Lanes(num_threads, f"run-{self.model.name}", self._compute_in_thread, self._ended)
        self._computer.allow(num_threads + len(self._runs))
        self._see_to_a_turn()

    @property
    def default_timeout_s(self) -> float:
        """Seconds within which a request is answered whose caller says nothing else."""
        return self.config.request_timeout_s if self._slo is None else self._slo.seconds

    @property
    def is_ready(self) -> bool:
        """Whether requests are accepted."""
        return self._loop is not None

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing runs, of one that is ready."""
        return self._loop is not None and not self._runs and not self.request_queue.waiting

    # --- asking -------------------------------------------------------------------------------------------------------

    async def infer(self, request: Request) -> Response:
        """The answer to `request`.

        Raises `RequestError` when the pipeline refuses its values, `OverloadedError`, `DeadlineError`, `NotReadyError`.
        """
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

        def deliver(result: Response | BaseException) -> None:
            if answer.done():
                return
            if isinstance(result, Response):
                answer.set_result(result)
            else:
                answer.set_exception(result)

        self.submit(request, deliver)
        return await answer

    def submit(self, request: Request, deliver: Deliver) -> None:
        """Queue `request`; `deliver` gets its answer or error. Raises `OverloadedError` and `NotReadyError` at once."""
        if self._loop is None:
            raise NotReadyError(f"the model {self.model.name} must be serving, got a request too soon or late; retry")
        self.check_room()
        now_s = self._monotonic()
        if self.request_queue.waiting or self._runs:
            self._check_in_time(request, now_s)
        if request.num_rows > self.config.batch_size:
            parts = InParts(request, deliver, self.config.batch_size, self._queue_last)
            request, deliver = parts.first(), parts.answered
        self.request_queue.put((now_s, request, deliver))
        self._see_to_a_turn()

    def check_room(self) -> None:
        """Raise `OverloadedError` when the queue is full. Protocols ask before they read a body as JSON."""
        queue = self.request_queue
        if queue.full():
            raise OverloadedError(
                f"fewer than {queue.maxsize} requests and {queue.max_bytes} bytes must wait for {self.model.name},"
                f" got {queue.qsize()} requests of {queue.num_bytes} bytes; send the request again later",
                retry_after_s=self._retry_after_s(),
            )

    def _check_in_time(self, request: Request, now_s: float) -> None:
        """Raise `OverloadedError` for a request whose turn will come too late, as far as can be told."""
        tail, queue = self._busy.tail, self.request_queue
        if not self._runs and now_s + tail.drain_s(queue.num_rows) + tail.longest_s <= request.deadline_s:
            return  # with time to spare, as nearly always where runs are short
        wait_s = self._drain_s(queue.rows_before(request.deadline_s)) + self._busy_s(now_s)
        own_s = tail.high_s(min(request.num_rows, self.config.batch_size))
        if now_s + wait_s + own_s > request.deadline_s:
            raise OverloadedError(
                f"an answer of {self.model.name} must be ready before the deadline, got {wait_s:.3g} s of work "
                "before it; send the request again later, or with a later deadline",
                retry_after_s=self._retry_after_s(),
            )

    def _drain_s(self, num_rows: int) -> float:
        """Seconds in which `num_rows` rows that wait are run, as many at a time as may be."""
        way = self._busy
        is_inline = self._is_inline(way, self.config.batch_size)
        return way.tail.drain_s(num_rows) / (1 if is_inline else way.candidate.streams)

    def _busy_s(self, now_s: float) -> float:
        """Seconds until a thread is free for another run."""
        if self._free_threads >= self._busy.candidate.threads:
            return 0.0
        left_s = [run.way.tail.expected_s(run.num_rows) - (now_s - run.began_s) for run in self._runs]
        return max(0.0, min(left_s))

    def _retry_after_s(self) -> float:
        """Seconds after which what waits should have run, at the pace that runs have now."""
        return min(max(self._drain_s(self.request_queue.num_rows), 1.0), MAX_RETRY_AFTER_S)

    def _queue_last(self, request: Request, deliver: Deliver) -> None:
        """Put the next part of an admitted request behind those that wait, and see to a turn."""
        if self._loop is None:
            deliver(_stopped())
            return
        self.request_queue.put_last((self._monotonic(), request, deliver))
        self._see_to_a_turn()

    def _see_to_a_turn(self) -> None:
        if not self._is_turn_due and self._loop is not None:
            self._is_turn_due = True
            self._loop.call_soon(self._turn)

    # --- running ------------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Answer requests until this is cancelled. Raises what breaks its loop."""
        self._loop = asyncio.get_running_loop()
        self._broken = self._loop.create_future()
        try:
            self._turn()
            await self._broken
        finally:
            self._loop = None
            self._refuse_waiting()

    def running_s(self) -> float:
        """Seconds since the longest of the runs in threads began; 0 while none is there."""
        return max((self._monotonic() - run.began_s for run in self._runs), default=0.0)

    def _turn(self) -> None:
        """Run what waits, as far as it goes now."""
        self._is_turn_due = False
        try:
            self._take_turns()
        except Exception as error:  # noqa: BLE001 - a fault of ours: `serve` ends by it, and another worker is started
            self._break(error)

    def _break(self, error: BaseException) -> None:
        if self._broken is not None and not self._broken.done():
            self._broken.set_exception(error)

    def _take_turns(self) -> None:
        """Run what waits: inline as long as runs are short, in threads as long as some are free."""
        queue = self.request_queue
        while self._loop is not None:
            way = self._way()
            if way is None:
                return  # the end of a run brings another turn
            now_s = self._monotonic()
            policy = self.batch_processor.policy
            run_s = way.tail.high_s(self.config.batch_size) if policy.delay_s else 0.0
            decision = policy.decide(queue.waiting, 1, now_s, run_s=run_s)
            if not isinstance(decision, Take):
                self._turn_at(decision.until_s, now_s)
                return
            num_requests = in_time(queue.waiting, decision.num_requests, self.config.batch_size, way.tail, now_s)
            if way.candidate.num_threads > 1 and not self._is_inline(way, queue.num_rows):
                num_requests = self._share(way, num_requests)
            batch = without_late(queue.take(num_requests), way.tail, now_s, is_last=not queue.waiting)
            if not batch:
                continue
            num_rows = sum([request.num_rows for _, request, _ in batch])
            if not self._is_inline(way, num_rows):
                self._process_batch(_Run(batch, way, num_rows, now_s))
                continue
            requests = [request for _, request, _ in batch]
            self._send_responses(batch, self._computer.compute(requests, way), way, now_s)
            if queue.waiting and way.pace.expected_s(num_rows) > self._hop_s:
                self._see_to_a_turn()  # what else the event loop has to do comes first
                return

    def _is_inline(self, way: Way, num_rows: int) -> bool:
        """Whether a run of `num_rows` rows stays on the event loop's thread."""
        if way.pace.expected_s(num_rows) <= self._hop_s:
            return True
        return way.candidate.num_threads == 1 and way.tail.expected_s(num_rows) <= self._alone_s

    def _way(self) -> Way | None:
        """How the next batch is run: alone on all threads, beside others on one, or not now (None)."""
        narrow, wide = self._narrow, self._wide
        if self._free_threads <= 0:
            return self._busy if self._may_be_ahead() else None
        if wide is None:
            return narrow if self._free_threads >= narrow.candidate.threads else None
        if self._free_threads < narrow.candidate.num_threads:
            return wide
        num_rows, num_waiting = self.request_queue.num_rows, len(self.request_queue.waiting)
        if num_waiting < 2:
            return narrow
        share = min(math.ceil(num_rows / min(wide.candidate.streams, num_waiting)), wide.paying_rows)
        whole = min(num_rows, narrow.paying_rows)
        return wide if wide.rows_per_s(share) > narrow.rows_per_s(whole) else narrow

    def _may_be_ahead(self) -> bool:
        """Whether one more run may wait in line for a thread, which then has no need to wait for the event loop: where
        the way there and back is not little beside a run.
        """
        way, most = self._busy, self._narrow.candidate.num_threads
        if way.candidate.threads > 1 or len(self._runs) != most or not self.request_queue.waiting:
            return False
        num_rows = min(self.request_queue.waiting[0][1].num_rows, self.config.batch_size)
        return way.tail.expected_s(num_rows) < AHEAD_S

    def _share(self, way: Way, num_requests: int) -> int:
        """How many of the first `num_requests` make up one run, so that others may go on beside it: no more rows than
        the free threads have each, or than pay.
        """
        queue = self.request_queue
        num_free = max(1, self._free_threads // way.candidate.threads)
        most = min(math.ceil(queue.num_rows / num_free), way.paying_rows)
        num_rows = 0
        for count in range(num_requests):
            num_rows += queue.waiting[count][1].num_rows
            if num_rows > most:
                return max(count, 1)
        return num_requests

    def _turn_at(self, until_s: float, now_s: float) -> None:
        """See to a turn at `until_s`; one of several asks is enough, the turn decides anew."""
        if self._loop is not None and until_s != math.inf and self._timer is None:
            self._timer = self._loop.call_later(until_s - now_s, self._timed_turn)

    def _timed_turn(self) -> None:
        self._timer = None
        self._turn()

    def _process_batch(self, run: _Run) -> None:
        """Begin a run in a thread; its end answers its batch."""
        self._runs[run] = None
        run.way.num_runs += 1
        self._free_threads -= run.way.candidate.threads
        if self._lanes is not None and self._loop is not None:
            self._lanes.submit(self._loop, run)

    def _compute_in_thread(self, run: _Run) -> Results:
        run.began_s = self._monotonic()
        return self._computer.compute([request for _, request, _ in run.batch], run.way)

    def _ended(self, run: _Run, results: Results | BaseException) -> None:
        del self._runs[run]
        run.way.num_runs -= 1
        self._free_threads += run.way.candidate.threads
        if isinstance(results, BaseException):
            self._break(results)
            return
        self._send_responses(run.batch, results, run.way, run.began_s)
        self._turn()

    def _send_responses(
        self, batch: Sequence[Waiting], results: Sequence[Response | BaseException], way: Way, begin_s: float
    ) -> None:
        """Deliver; `begin_s` is when the run began."""
        end_s = self._monotonic()
        num_rows = sum([request.num_rows for _, request, _ in batch])
        way.tail.ran(num_rows, end_s - begin_s)
        if self.slowest.due(end_s - batch[0][0], end_s):
            self._keep_slow(
                batch[0], Receipt(begin_s - batch[0][0], end_s - begin_s, num_rows, str(way.candidate)), end_s
            )
        for (put_s, request, deliver), result in zip(batch, results, strict=True):
            if request.wants_receipt and isinstance(result, Response):
                result.receipt = Receipt(begin_s - put_s, end_s - begin_s, num_rows, str(way.candidate))
            deliver(result)

    def _keep_slow(self, waiting: Waiting, receipt: Receipt, end_s: float) -> None:
        """Note one of the slowest requests of these minutes."""
        put_s, request, _ = waiting
        self.slowest.offer(SlowRequest(end_s - put_s, request.num_rows, request.num_bytes, end_s, receipt))

    def _refuse_waiting(self) -> None:
        for _, _, deliver in self.request_queue.take(self.request_queue.qsize()):
            deliver(_stopped())

    def close(self) -> None:
        """Wait for runs to end and release the runtimes. May be called twice."""
        if self._lanes is not None:
            self._lanes.close()
        self._computer.close()
        for way in (self._narrow, self._wide, *self._retired):
            if way is not None:
                way.close()
        self._reserved.close()


def _stopped() -> NotReadyError:
    return NotReadyError("the server stopped before the answer was ready; send the request to another one")
