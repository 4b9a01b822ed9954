"""`ModelServer`: one model, its queue, and the loop that turns waiting requests into batches, runs and answers.

It is neutral to protocols: `http.py` translates requests into `Request`s. A run that is shorter than handing it to a
thread happens inline, with everything that arrived in the same turn of the event loop as one batch; longer runs go to
the one executor thread, and what arrives meanwhile makes up the next batch.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import NotReadyError, OverloadedError, RequestError
from corelane.core.types import Array, NamedArrays
from corelane.data.tensor_pipeline import TensorPipeline
from corelane.machine.memory import MemoryManager
from corelane.model.candidate import SAFE, Candidate
from corelane.model.package import ModelPackage
from corelane.model.predictor import Predictor
from corelane.observe.metrics import MetricsCollector
from corelane.serve.batch import BatchBuffers, BatchProcessor, RequestQueue, Take, split
from corelane.serve.config import ServeConfig
from corelane.serve.deadlines import in_time, without_late
from corelane.serve.pace import MAX_RETRY_AFTER_S, UNKNOWN, Pace, measure_pace
from corelane.serve.parts import InParts
from corelane.serve.request import Deliver, Inputs, Receipt, Request, Response, Waiting
from corelane.serve.slo import Slo
from corelane.serve.slowest import Slowest, SlowRequest
from corelane.serve.tail import QUANTILE, TailModel

# Handing a run to a thread and back took 60-200 us under load on two cores of 2021. A run expected to be shorter than
# that stays on the event loop's thread, which costs the others less than the hand-over would.
THREAD_HOP_S = 200e-6


class ModelServer:
    """Owns one loaded package, its queue and its runs. `serve` must be running while requests are submitted.

    Loading verifies the package, runs its golden rows and measures how long runs take. Its graph and the queue's bound
    are reserved in `memory`; the latter not where the caller has done it, for a model of which one version follows
    another. Raises `BundleError`, `GoldenError` and `MemoryBudgetError`. All methods are for the event
    loop's thread; only `_compute` runs elsewhere, one call at a time.
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
    ) -> None:
        self.config = config
        self.model = ModelPackage.load(model_path)
        memory = memory or MemoryManager()
        self._buffers = BatchBuffers(memory, config.batch_size)
        clock = self._clock = clock or SystemClock()
        self.candidate = replace(SAFE, threads=config.threads)
        with ExitStack() as reserved:  # given back where opening fails
            reserved.enter_context(memory.reserve(self.model.num_bytes, "model"))
            if not is_queue_reserved:
                reserved.enter_context(memory.reserve(config.queue_bytes, "data"))
            self.predictor, pace = self._opened(self.candidate)
            self._reserved = reserved.pop_all()
        self._slo = Slo.parse(config.slo) if config.slo else None
        self.pace = pace
        # Where a length is free, the pace was measured at another one: such rows never stay on the event loop's thread.
        pipeline = self.model.pipeline
        self._hop_s = -math.inf if isinstance(pipeline, TensorPipeline) and pipeline.free else THREAD_HOP_S
        self.request_queue = RequestQueue(config.queue_size, config.queue_bytes)
        self._monotonic = clock.monotonic
        self.batch_processor = BatchProcessor(config.batch_size, delay_s=config.batch_delay_s, clock=clock)
        self._meter = (metrics or MetricsCollector()).batch_meter(self.model.name)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"run-{self.model.name}")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_turn_due = False
        self._long_batch: asyncio.Future[list[Waiting]] | None = None  # pending while the executor is idle
        self._timer: asyncio.TimerHandle | None = None
        self._began_s: float | None = None  # when the run in the executor began
        self._running_rows = 0  # of that run
        self.slowest = Slowest()

    @property
    def pace(self) -> Pace:
        """How long runs take, as measured when the package was opened."""
        return self._pace

    @pace.setter
    def pace(self, pace: Pace) -> None:
        self._pace = pace
        self.tail = TailModel(pace, self.config.batch_size, QUANTILE if self._slo is None else self._slo.quantile)

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
        return self._long_batch is not None and not self._long_batch.done() and not self.request_queue.waiting

    async def adopt(self, candidate: Candidate) -> None:
        """Run as `candidate` says from now on; requests go on meanwhile, and a run that has begun ends as it began.

        Raises `BundleError`, `GoldenError` and what opening its runtime raises; then nothing has changed.
        """
        loop = asyncio.get_running_loop()
        predictor, pace = await loop.run_in_executor(None, self._opened, candidate)
        former, self.predictor, self.pace, self.candidate = self.predictor, predictor, pace, candidate
        await loop.run_in_executor(self._executor, former.close)  # after the run that may be in it

    def _opened(self, candidate: Candidate) -> tuple[Predictor, Pace]:
        predictor = self.model.predictor(candidate)
        try:
            self.model.check_golden(predictor, graph=candidate.graph)
            return predictor, self._measured(predictor)
        except BaseException:
            predictor.close()
            raise

    def _measured(self, predictor: Predictor) -> Pace:
        try:
            return measure_pace(predictor, self.config.batch_size, self._clock, self.model.golden)
        except RequestError:  # somebody else's network, which takes no rows of zeros; its package holds no others
            return UNKNOWN

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
        if self.request_queue.waiting or self._began_s is not None:
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
        tail, queue = self.tail, self.request_queue
        if self._began_s is None and now_s + tail.drain_s(queue.num_rows) + tail.longest_s <= request.deadline_s:
            return  # with time to spare, as nearly always
        wait_s = tail.drain_s(queue.rows_before(request.deadline_s))
        if self._began_s is not None:
            wait_s += max(0.0, tail.expected_s(self._running_rows) - (now_s - self._began_s))
        own_s = tail.high_s(min(request.num_rows, self.config.batch_size))
        if now_s + wait_s + own_s > request.deadline_s:
            raise OverloadedError(
                f"an answer of {self.model.name} must be ready before the deadline, got {wait_s:.3g} s of work "
                "before it; send the request again later, or with a later deadline",
                retry_after_s=self._retry_after_s(),
            )

    def _retry_after_s(self) -> float:
        """Seconds after which what waits should have run, at the pace that runs have now."""
        return min(max(self.tail.drain_s(self.request_queue.num_rows), 1.0), MAX_RETRY_AFTER_S)

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
        """The main loop, until it is cancelled: runs the batches that are too long for the event loop's thread."""
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                self._long_batch = self._loop.create_future()
                self._turn()
                batch = await self._long_batch
                self._running_rows = sum([request.num_rows for _, request, _ in batch])
                begin_s = self._began_s = self._monotonic()
                results = await self._process_batch(batch)
                self._began_s = None
                self._send_responses(batch, results, begin_s)
        finally:
            self._loop = None
            self._long_batch = None
            self._refuse_waiting()

    def running_s(self) -> float:
        """Seconds since the run in the executor began; 0 while none is there."""
        return 0.0 if self._began_s is None else self._monotonic() - self._began_s

    def _turn(self) -> None:
        """Run what waits inline as long as runs are short; hand the first long one to `serve`."""
        self._is_turn_due = False
        while self._long_batch is not None and not self._long_batch.done():
            now_s = self._monotonic()
            decision = self.batch_processor.policy.decide(self.request_queue.waiting, 1, now_s)
            if not isinstance(decision, Take):
                self._turn_at(decision.until_s, now_s)
                return
            queue, tail = self.request_queue, self.tail
            num_requests = in_time(queue.waiting, decision.num_requests, self.config.batch_size, tail, now_s)
            batch = without_late(queue.take(num_requests), tail, now_s, is_last=not queue.waiting)
            if not batch:
                continue
            requests = [request for _, request, _ in batch]
            if self._pace.expected_s(sum([request.num_rows for request in requests])) > self._hop_s:
                self._long_batch.set_result(batch)
            else:
                self._send_responses(batch, self._compute(requests), now_s)

    def _turn_at(self, until_s: float, now_s: float) -> None:
        """See to a turn at `until_s`; one of several asks is enough, the turn decides anew."""
        if self._loop is not None and until_s != math.inf and self._timer is None:
            self._timer = self._loop.call_later(until_s - now_s, self._timed_turn)

    def _timed_turn(self) -> None:
        self._timer = None
        self._turn()

    async def _process_batch(self, batch: Sequence[Waiting]) -> list[Response | BaseException]:
        requests = [request for _, request, _ in batch]
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._compute, requests)

    def _compute(self, requests: Sequence[Request]) -> list[Response | BaseException]:
        """One run for all; if it fails, one run each, so that a request that cannot be computed fails alone."""
        if len(requests) == 1:
            return [self._compute_one(requests[0])]
        start_s = self._monotonic()
        try:
            outputs = self._predict(self._buffers.join(requests))
        except Exception:  # noqa: BLE001 - which of them is at fault, and how, the single runs tell
            return [self._compute_one(request) for request in requests]
        self._meter.ran(sum([request.num_rows for request in requests]), self._monotonic() - start_s)
        return split(outputs, requests)  # type: ignore[return-value]

    def _compute_one(self, request: Request) -> Response | BaseException:
        start_s = self._monotonic()
        try:
            outputs = self._predict(request.inputs)
        except Exception as error:  # noqa: BLE001 - whatever the model raises is this request's answer
            return error
        self._meter.ran(request.num_rows, self._monotonic() - start_s)
        return Response(request, outputs)

    def _predict(self, inputs: Inputs) -> NamedArrays:
        if isinstance(inputs, np.ndarray):
            outputs = self.predictor.predict_matrix(inputs)
        else:
            outputs = self.predictor.predict_columns(inputs)
        for name, array in outputs.items():
            if array.dtype.kind == "f" and not _is_finite(array):
                raise RequestError(
                    f"the output {name!r} must be finite, got NaN or infinity; the input values are too large"
                )
        return outputs

    def _send_responses(
        self, batch: Sequence[Waiting], results: Sequence[Response | BaseException], begin_s: float
    ) -> None:
        """Deliver; `begin_s` is when the run began."""
        end_s = self._monotonic()
        num_rows = sum([request.num_rows for _, request, _ in batch])
        self.tail.ran(num_rows, end_s - begin_s)
        if self.slowest.due(end_s - batch[0][0], end_s):
            self._keep_slow(batch[0], begin_s, end_s, num_rows)
        for (put_s, request, deliver), result in zip(batch, results, strict=True):
            if request.wants_receipt and isinstance(result, Response):
                result.receipt = Receipt(begin_s - put_s, end_s - begin_s, num_rows, str(self.candidate))
            deliver(result)

    def _keep_slow(self, waiting: Waiting, begin_s: float, end_s: float, num_rows: int) -> None:
        """Note one of the slowest requests of these minutes."""
        put_s, request, _ = waiting
        receipt = Receipt(begin_s - put_s, end_s - begin_s, num_rows, str(self.candidate))
        self.slowest.offer(SlowRequest(end_s - put_s, request.num_rows, request.num_bytes, end_s, receipt))

    def _refuse_waiting(self) -> None:
        for _, _, deliver in self.request_queue.take(self.request_queue.qsize()):
            deliver(_stopped())

    def close(self) -> None:
        """Wait for a run to end and release the runtime. May be called twice."""
        self._executor.shutdown()
        self._buffers.close()
        self.predictor.close()
        self._reserved.close()


def _stopped() -> NotReadyError:
    return NotReadyError("the server stopped before the answer was ready; send the request to another one")


def _is_finite(array: Array) -> bool:
    """Whether all of `array` is finite. The dot product settles nearly every case in a third of the time."""
    flat = array.ravel()
    return math.isfinite(flat.dot(flat)) or bool(np.isfinite(array).all())
