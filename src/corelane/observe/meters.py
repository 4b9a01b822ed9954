"""Meters for the serving hot path: label values are resolved once, and a request costs the append to a list.

They are made by `MetricsCollector.request_meter` and `.batch_meter` and used by `serve`, once per request and once
per batch. What was appended is counted together, when there is enough of it or when the metrics are read.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Sequence

from prometheus_client import Histogram

MOST_PENDING = 256
"""Requests that a process may end with uncounted, where it is killed."""


class RequestMeter:
    """Counts and times the requests of one model over one protocol. Safe to share between threads."""

    __slots__ = ("_count_of", "_latency", "_lock", "_pending")

    def __init__(self, count_of: Callable[[int | str], Callable[[float], None]], latency: Histogram) -> None:
        self._count_of = count_of
        self._latency = latency
        self._pending: deque[tuple[int | str, float]] = deque()
        self._lock = threading.Lock()

    def answered(self, status: int | str, latency_s: float) -> None:
        """Count one answer with `status` (HTTP number or gRPC name) that took `latency_s` seconds from arrival."""
        pending = self._pending
        pending.append((status, latency_s))
        if len(pending) >= MOST_PENDING:
            self.flush()

    def flush(self) -> None:
        """Count what was answered so far."""
        with self._lock:
            pop = self._pending.popleft  # others append meanwhile: what they do is left for the next time
            taken = [pop() for _ in range(len(self._pending))]
            for status, many in Tally([status for status, _ in taken]).items():
                self._count_of(status)(many)
            observe_all(self._latency, [latency_s for _, latency_s in taken])


class BatchMeter:
    """Observes the batches of one model. Safe to share between threads."""

    __slots__ = ("_observe_compute", "_observe_rows")

    def __init__(self, observe_rows: Callable[[float], None], observe_compute: Callable[[float], None]) -> None:
        self._observe_rows = observe_rows
        self._observe_compute = observe_compute

    def ran(self, num_rows: int, compute_s: float) -> None:
        """Observe one batch of `num_rows` rows for which the model took `compute_s` seconds."""
        self._observe_rows(num_rows)
        self._observe_compute(compute_s)


def observe_all(histogram: Histogram, values: Sequence[float]) -> None:
    """As `histogram.observe` with each of `values`, at the price of one call for each bucket.

    The library has no such call; a test compares this with its own.
    """
    bounds, buckets = histogram._upper_bounds, histogram._buckets
    for bucket, many in Tally([bisect_left(bounds, value) for value in values]).items():
        buckets[bucket].inc(many)
    histogram._sum.inc(sum(values))
