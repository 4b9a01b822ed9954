"""Meters for the serving hot path: label values are resolved once, and a request costs the append to a list.

They are made by `MetricsCollector.request_meter` and `.batch_meter` and used by `serve`, once per request and once
per batch. What was appended is counted together, when there is enough of it or when the metrics are read.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from prometheus_client import Histogram

SeenT = TypeVar("SeenT")

MOST_PENDING = 256
"""Requests, and batches, that a process may end with uncounted, where it is killed."""


class _Meter(ABC, Generic[SeenT]):
    """Owns what was seen and is not counted yet. Safe to share between threads."""

    __slots__ = ("_lock", "_pending")

    def __init__(self) -> None:
        self._pending: deque[SeenT] = deque()
        self._lock = threading.Lock()

    def flush(self) -> None:
        """Count what was seen so far."""
        with self._lock:
            pop = self._pending.popleft  # others append meanwhile: what they do is left for the next time
            self._count([pop() for _ in range(len(self._pending))])

    @abstractmethod
    def _count(self, seen: Sequence[SeenT]) -> None: ...


class RequestMeter(_Meter[tuple[int | str, float]]):
    """Counts and times the requests of one model over one protocol. Safe to share between threads."""

    __slots__ = ("_count_of", "_latency")

    def __init__(self, count_of: Callable[[int | str], Callable[[float], None]], latency: Histogram) -> None:
        super().__init__()
        self._count_of = count_of
        self._latency = latency

    def answered(self, status: int | str, latency_s: float) -> None:
        """Count one answer with `status` (HTTP number or gRPC name) that took `latency_s` seconds from arrival."""
        pending = self._pending
        pending.append((status, latency_s))
        if len(pending) >= MOST_PENDING:
            self.flush()

    def _count(self, seen: Sequence[tuple[int | str, float]]) -> None:
        for status, many in Tally([status for status, _ in seen]).items():
            self._count_of(status)(many)
        observe_all(self._latency, [latency_s for _, latency_s in seen])


class BatchMeter(_Meter[tuple[int, float]]):
    """Observes the batches of one model. Safe to share between threads."""

    __slots__ = ("_compute", "_rows")

    def __init__(self, rows: Histogram, compute: Histogram) -> None:
        super().__init__()
        self._rows = rows
        self._compute = compute

    def ran(self, num_rows: int, compute_s: float) -> None:
        """Observe one batch of `num_rows` rows for which the model took `compute_s` seconds."""
        pending = self._pending
        pending.append((num_rows, compute_s))
        if len(pending) >= MOST_PENDING:
            self.flush()

    def _count(self, seen: Sequence[tuple[int, float]]) -> None:
        observe_all(self._rows, [num_rows for num_rows, _ in seen])
        observe_all(self._compute, [compute_s for _, compute_s in seen])


def observe_all(histogram: Histogram, values: Sequence[float]) -> None:
    """As `histogram.observe` with each of `values`, at the price of one call for each bucket.

    The library has no such call; a test compares this with its own.
    """
    bounds, buckets = histogram._upper_bounds, histogram._buckets
    for bucket, many in Tally([bisect_left(bounds, value) for value in values]).items():
        buckets[bucket].inc(many)
    histogram._sum.inc(sum(values))
