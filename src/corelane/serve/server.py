"""`ModelServer`: one model, its queue, and the loop that turns waiting requests into batches, runs and answers.

It is neutral to protocols: `http.py` translates requests into `Request`s. Where a run happens on the event loop's
thread, everything that arrived in the same turn of the loop is one batch; where runs go to threads, what arrives
meanwhile makes up the next batches. Which of the two, and how many at a time, its `Runner` says.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
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
from corelane.serve.pace import MAX_RETRY_AFTER_S, Pace
from corelane.serve.parts import InParts
from corelane.serve.request import Deliver, Receipt, Request, Response, Waiting
from corelane.serve.runner import Run, Runner
from corelane.serve.slo import Slo
from corelane.serve.slowest import Slowest, SlowRequest
from corelane.serve.tail import QUANTILE
from corelane.serve.ways import Way, WayOpener


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
        opener = WayOpener(self.model, memory, clock, batch_size=config.batch_size, quantile=quantile, shared=shared)
        with ExitStack() as reserved:  # given back where opening fails
            reserved.enter_context(memory.reserve(self.model.num_bytes, "model"))
            if not is_queue_reserved:
                reserved.enter_context(memory.reserve(config.queue_bytes, "data"))
            narrow = opener.opened(replace(SAFE, threads=config.threads))
            self._reserved = reserved.pop_all()
        self.request_queue = RequestQueue(config.queue_size, config.queue_bytes)
        self._monotonic = clock.monotonic
        self.batch_processor = BatchProcessor(config.batch_size, delay_s=config.batch_delay_s, clock=clock)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._broken: asyncio.Future[None] | None = None
        self._is_turn_due = False
        self._timer: asyncio.TimerHandle | None = None
        meter = (metrics or MetricsCollector()).batch_meter(self.model.name)
        pipeline = self.model.pipeline
        self.runner = Runner(
            self.model.name,
            opener,
            narrow,
            self.request_queue,
            BatchComputer(memory, config.batch_size, meter, clock),
            clock,
            batch_size=config.batch_size,
            # Where a length is free, the pace was measured at another one.
            has_pace=not (isinstance(pipeline, TensorPipeline) and pipeline.free),
            on_end=self._ended,
            on_room=self._see_to_a_turn,
        )
        self.slowest = Slowest()

    # --- how it runs --------------------------------------------------------------------------------------------------

    @property
    def candidate(self) -> Candidate:
        """How a batch is run that is alone."""
        return self.runner.narrow.candidate

    @property
    def predictor(self) -> Predictor:
        """What runs it."""
        return self.runner.narrow.predictor

    @property
    def pace(self) -> Pace:
        """How long such runs take, as measured when the package was opened."""
        return self.runner.narrow.pace

    @pace.setter
    def pace(self, pace: Pace) -> None:
        self.runner.narrow.pace = pace

    async def adopt(self, candidate: Candidate) -> None:
        """Run as `candidate` says from now on; requests go on meanwhile, and a run that has begun ends as it began.

        Raises `BundleError`, `GoldenError` and what opening its runtime raises; then nothing has changed.
        """
        await self.runner.adopt(candidate)

    def widen(self, num_threads: int) -> None:
        """Have so many runs at a time, where each takes one thread: a session of one thread is anybody's."""
        self.runner.widen(num_threads)

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
        return self._loop is not None and self.runner.is_idle and not self.request_queue.waiting

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
        self.check_room()
        self.enqueue(request, deliver)

    def enqueue(self, request: Request, deliver: Deliver) -> None:
        """As `submit`, of who has looked for room in the same turn of the event loop."""
        if self._loop is None:
            raise NotReadyError(f"the model {self.model.name} must be serving, got a request too soon or late; retry")
        now_s = self._monotonic()
        if self.request_queue.waiting or not self.runner.is_idle:
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
        runner, queue = self.runner, self.request_queue
        tail = runner.busy.tail
        if runner.is_idle and now_s + tail.drain_s(queue.num_rows) + tail.longest_s <= request.deadline_s:
            return  # with time to spare, as nearly always where runs are short
        wait_s = runner.drain_s(queue.rows_before(request.deadline_s)) + runner.busy_s(now_s)
        own_s = tail.high_s(min(request.num_rows, self.config.batch_size))
        if now_s + wait_s + own_s > request.deadline_s:
            raise OverloadedError(
                f"an answer of {self.model.name} must be ready before the deadline, got {wait_s:.3g} s of work "
                "before it; send the request again later, or with a later deadline",
                retry_after_s=self._retry_after_s(),
            )

    def _retry_after_s(self) -> float:
        """Seconds after which what waits should have run, at the pace that runs have now."""
        return min(max(self.runner.drain_s(self.request_queue.num_rows), 1.0), MAX_RETRY_AFTER_S)

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
        return self.runner.running_s()

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
        queue, runner, policy = self.request_queue, self.runner, self.batch_processor.policy
        while self._loop is not None:
            way = runner.way()
            if way is None:
                return  # the end of a run brings another turn
            now_s = self._monotonic()
            run_s = way.tail.high_s(self.config.batch_size) if policy.delay_s else 0.0
            decision = policy.decide(queue.waiting, 1, now_s, run_s=run_s)
            if not isinstance(decision, Take):
                self._turn_at(decision.until_s, now_s)
                return
            num_requests = in_time(queue.waiting, decision.num_requests, self.config.batch_size, way.tail, now_s)
            num_requests = runner.share(way, num_requests)
            batch = without_late(queue.take(num_requests), way.tail, now_s, is_last=not queue.waiting)
            if not batch:
                continue
            num_rows = sum([request.num_rows for _, request, _ in batch])
            if not runner.is_inline(way, num_rows):
                runner.begin(Run(batch, way, num_rows, now_s))
                continue
            results = runner.compute([request for _, request, _ in batch], way)
            self._send_responses(batch, results, way, now_s)
            if queue.waiting and not runner.is_short(way, num_rows):
                self._see_to_a_turn()  # what else the event loop has to do comes first
                return

    def _turn_at(self, until_s: float, now_s: float) -> None:
        """See to a turn at `until_s`; one of several asks is enough, the turn decides anew."""
        if self._loop is not None and until_s != math.inf and self._timer is None:
            self._timer = self._loop.call_later(until_s - now_s, self._timed_turn)

    def _timed_turn(self) -> None:
        self._timer = None
        self._turn()

    def _ended(self, run: Run, results: Results | BaseException) -> None:
        """A run in a thread has ended: answer its batch."""
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
        self.runner.close()
        self._reserved.close()


def _stopped() -> NotReadyError:
    return NotReadyError("the server stopped before the answer was ready; send the request to another one")
