"""Batching: the bounded queue, the pure decision when to run what waits, and the joining of requests into one run.

The decision is work-conserving: an idle executor takes what waits at once, so batches grow only while executors are
busy. `ModelServer` is the event loop around it.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import numpy as np

from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import ConfigError
from corelane.core.types import Array, NamedArrays
from corelane.machine.memory import MemoryManager
from corelane.serve.request import Inputs, Request, Response, Waiting


@dataclass(frozen=True, slots=True)
class Wait:
    """Run nothing before `until_s` on the monotonic clock or before something changes; infinity: only the latter."""

    until_s: float


@dataclass(frozen=True, slots=True)
class Take:
    """Run the first `num_requests` that wait as one batch."""

    num_requests: int


Decision: TypeAlias = Wait | Take
NOTHING_TO_DO = Wait(math.inf)
_MAX_BUFFERS = 8  # a model has one width and clients send one or two number types; a strange mixture starts anew


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """At most `batch_size` rows a run (a larger request runs alone); waits up to `delay_s` for a batch to fill."""

    batch_size: int
    delay_s: float = 0.0

    def decide(self, queue: Sequence[Waiting], idle_executors: int, now: float, *, run_s: float = 0.0) -> Decision:
        """What to do at `now` with what waits, in the order in which it is to be run. A pure function.

        A batch that takes `run_s` seconds does not wait longer than lets its first request be answered in time.
        """
        if not queue or idle_executors < 1:
            return NOTHING_TO_DO
        num_rows = 0
        for count, (_, request, _) in enumerate(queue):
            num_rows += request.num_rows
            if num_rows > self.batch_size:
                return Take(max(count, 1))
            if num_rows == self.batch_size:
                return Take(count + 1)
        if self.delay_s:
            until_s = min([put_s for put_s, _, _ in queue]) + self.delay_s
            until_s = min(until_s, queue[0][1].deadline_s - run_s)
            if now < until_s:
                return Wait(until_s)
        return Take(len(queue))


class RequestQueue:
    """What waits for one model, the earliest deadline first, bounded in requests and in bytes. For the event loop's
    thread only.

    Among equal deadlines who came first is first. Where each deadline is so long after its arrival as the others',
    which is the rule, a request goes to the end, for the price of one comparison.
    """

    def __init__(self, maxsize: int = 1000, max_bytes: int = 64 << 20) -> None:
        self.maxsize = maxsize
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self.num_rows = 0
        self.waiting: deque[Waiting] = deque()
        self._due_s: deque[float] = deque()  # of those in `waiting`: what they are ordered by
        self._arrival: asyncio.Future[None] | None = None

    def qsize(self) -> int:
        """How many requests wait."""
        return len(self.waiting)

    def rows_before(self, deadline_s: float) -> int:
        """How many rows would be run before a request with that deadline, if it came now."""
        if not self._due_s or deadline_s >= self._due_s[-1]:
            return self.num_rows
        ahead = islice(self.waiting, bisect_right(self._due_s, deadline_s))
        return sum(request.num_rows for _, request, _ in ahead)

    def full(self) -> bool:
        """Whether a bound is reached. A request that is alone always fits: its size was checked before."""
        return len(self.waiting) >= self.maxsize or self.num_bytes >= self.max_bytes

    def put_nowait(self, item: Waiting) -> None:
        """Put `item`. Raises `asyncio.QueueFull` when a bound is reached."""
        if self.full():
            raise asyncio.QueueFull
        self.put(item)

    def put(self, item: Waiting) -> None:
        """Put `item` where its deadline says, whatever waits."""
        due_s = item[1].deadline_s
        if not self._due_s or due_s >= self._due_s[-1]:
            self._due_s.append(due_s)
            self.waiting.append(item)
        else:
            place = bisect_right(self._due_s, due_s)
            self._due_s.insert(place, due_s)
            self.waiting.insert(place, item)
        self._count(item[1])

    def put_last(self, item: Waiting) -> None:
        """Put `item` behind everything that waits: the next part of a request that has had its turn."""
        self._due_s.append(max(item[1].deadline_s, self._due_s[-1]) if self._due_s else item[1].deadline_s)
        self.waiting.append(item)
        self._count(item[1])

    def _count(self, request: Request) -> None:
        self.num_bytes += request.num_bytes
        self.num_rows += request.num_rows
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def take(self, num_requests: int) -> list[Waiting]:
        """The first `num_requests`, removed."""
        if num_requests == len(self.waiting):
            batch = list(self.waiting)
            self.waiting.clear()
            self._due_s.clear()
            self.num_bytes = self.num_rows = 0
            return batch
        batch = [self.waiting.popleft() for _ in range(num_requests)]
        for _, request, _ in batch:
            self._due_s.popleft()
            self.num_bytes -= request.num_bytes
            self.num_rows -= request.num_rows
        return batch

    async def arrival(self, within_s: float) -> None:
        """Return when a request is put, or after `within_s` seconds. One task may wait at a time."""
        self._arrival = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait((self._arrival,), timeout=max(within_s, 0.0))
        finally:
            self._arrival = None


class BatchProcessor:
    """Owns how requests are taken from a queue as one batch, and nothing else."""

    def __init__(self, batch_size: int = 32, *, delay_s: float = 0.0, clock: Clock | None = None) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}; pass a number of rows")
        self.policy = BatchPolicy(batch_size, delay_s)
        self._clock = clock or SystemClock()

    async def get_batch(self, queue: RequestQueue, timeout: float = 0.1) -> list[Waiting]:
        """The hand-held form: wait up to `timeout` s for a batch the policy takes; empty if none came."""
        deadline_s = self._clock.monotonic() + timeout
        while True:
            now_s = self._clock.monotonic()
            decision = self.policy.decide(queue.waiting, 1, now_s)
            if isinstance(decision, Take):
                return queue.take(decision.num_requests)
            if now_s >= deadline_s:
                return []
            await queue.arrival(min(deadline_s, decision.until_s) - now_s)


class BatchBuffers:
    """Owns the arrays that matrices of requests are joined in, and nothing else: leased once, written for each run.

    One run at a time may use them.
    """

    def __init__(self, memory: MemoryManager, max_rows: int) -> None:
        self._memory = memory
        self._max_rows = max_rows
        self._leased: dict[tuple[int, str], Array] = {}

    def join(self, requests: Sequence[Request]) -> Inputs:
        """The inputs of at least one request as those of one, rows in order; valid until the next call.

        Raises `ValueError` if their types differ.
        """
        inputs: list[Any] = [request.inputs for request in requests]
        if isinstance(inputs[0], Mapping):
            return {name: _join_column([one[name] for one in inputs]) for name in inputs[0]}
        num_rows = sum([len(matrix) for matrix in inputs])
        first = inputs[0]
        is_alike = all(matrix.ndim == 2 and matrix.dtype == first.dtype for matrix in inputs)
        if not is_alike or num_rows > self._max_rows or first.dtype.kind not in "fiu":
            return np.concatenate(inputs)
        return np.concatenate(inputs, out=self._buffer(first)[:num_rows])

    def close(self) -> None:
        """Give the buffers back."""
        while self._leased:
            self._memory.release(self._leased.popitem()[1])

    def _buffer(self, like: Array) -> Array:
        key = (like.shape[1], like.dtype.str)
        if key not in self._leased:
            if len(self._leased) == _MAX_BUFFERS:
                self.close()
            self._leased[key] = self._memory.allocate_tensor((self._max_rows, like.shape[1]), like.dtype)
        return self._leased[key]


def _join_column(parts: Sequence[Any]) -> Any:
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    if all(isinstance(part, list) for part in parts):
        return [value for part in parts for value in part]
    raise ValueError("a column must come as arrays or as lists, got both")


def split(outputs: NamedArrays, requests: Sequence[Request]) -> list[Response]:
    """The outputs of a joined run as one response per request."""
    responses: list[Response] = []
    start = 0
    for request in requests:
        stop = start + request.num_rows
        responses.append(Response(request, {name: array[start:stop] for name, array in outputs.items()}))
        start = stop
    return responses
