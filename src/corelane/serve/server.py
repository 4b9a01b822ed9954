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
from corelane.core.errors import DeadlineError, NotReadyError, OverloadedError, RequestError
from corelane.core.types import Array, NamedArrays
from corelane.machine.memory import MemoryManager
from corelane.model.candidate import SAFE, Candidate
from corelane.model.package import ModelPackage
from corelane.model.predictor import Predictor
from corelane.observe.metrics import MetricsCollector
from corelane.serve.batch import BatchBuffers, BatchProcessor, RequestQueue, Take, split
from corelane.serve.config import ServeConfig
from corelane.serve.pace import Pace, measure_pace
from corelane.serve.parts import InParts
from corelane.serve.request import Deliver, Inputs, Receipt, Request, Response, Waiting

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
            self.predictor, self.pace = self._opened(self.candidate)
            self._reserved = reserved.pop_all()
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
            return predictor, measure_pace(predictor, self.config.batch_size, self._clock, self.model.golden)
        except BaseException:
            predictor.close()
            raise

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

    def submit(self, request: Request, deliver: Deliver, *, is_alone: bool = False) -> None:
        """Queue `request`; `deliver` gets its answer or error. Raises `OverloadedError` and `NotReadyError` at once.

        With `is_alone` the caller knows of no other request under way, so that none could join this one's batch: it is
        run before `submit` returns, if it is short and nothing else runs.
        """
        if is_alone and self._can_run_now(request):
            if not request.wants_receipt:
                deliver(self._compute_one(request))
                return
            now_s = self._monotonic()
            self._send_responses([(now_s, request, deliver)], [self._compute_one(request)], now_s)
            return
        if self._loop is None:
            raise NotReadyError(f"the model {self.model.name} must be serving, got a request too soon or late; retry")
        if request.num_rows > self.config.batch_size:
            parts = InParts(request, deliver, self.config.batch_size, self._queue)
            request, deliver = parts.first(), parts.answered
        if self.request_queue.full():
            raise self._overloaded()
        self._queue(request, deliver)

    def _queue(self, request: Request, deliver: Deliver) -> None:
        """Put an admitted request behind those that wait, and see to a turn."""
        if self._loop is None:
            deliver(_stopped())
            return
        self.request_queue.put((self._monotonic(), request, deliver))
        if not self._is_turn_due:
            self._is_turn_due = True
            self._loop.call_soon(self._turn)

    def _can_run_now(self, request: Request) -> bool:
        return (
            self._long_batch is not None
            and not self._long_batch.done()
            and not self.request_queue.waiting
            and self.pace.expected_s(request.num_rows) <= THREAD_HOP_S
        )

    def _overloaded(self) -> OverloadedError:
        queue = self.request_queue
        return OverloadedError(
            f"fewer than {queue.maxsize} requests and {queue.max_bytes} bytes must wait for {self.model.name},"
            f" got {queue.qsize()} requests of {queue.num_bytes} bytes; send the request again later",
            retry_after_s=self.pace.drain_s(queue.qsize()),
        )

    # --- running ------------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """The main loop, until it is cancelled: runs the batches that are too long for the event loop's thread."""
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                self._long_batch = self._loop.create_future()
                self._turn()
                batch = await self._long_batch
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
            batch = _without_late(self.request_queue.take(decision.num_requests), now_s)
            requests = [request for _, request, _ in batch]
            if self.pace.expected_s(sum([request.num_rows for request in requests])) > THREAD_HOP_S:
                self._long_batch.set_result(batch)
            elif requests:
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
        for (put_s, request, deliver), result in zip(batch, results, strict=True):
            if request.wants_receipt and isinstance(result, Response):
                num_rows = sum([one.num_rows for _, one, _ in batch])
                result.receipt = Receipt(begin_s - put_s, end_s - begin_s, num_rows, str(self.candidate))
            deliver(result)

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


def _without_late(batch: list[Waiting], now_s: float) -> list[Waiting]:
    """`batch` without the requests whose deadline has passed; those are told so and cost no run."""
    for _, request, _ in batch:
        if request.deadline_s <= now_s:
            break
    else:
        return batch
    for _, request, deliver in batch:
        if request.deadline_s <= now_s:
            deliver(DeadlineError("the deadline passed while the request waited; send it again later"))
    return [waiting for waiting in batch if waiting[1].deadline_s > now_s]
