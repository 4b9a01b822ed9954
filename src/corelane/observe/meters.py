"""Pre-bound meters for the serving hot path: label values are resolved once, a request costs two additions.

They are made by `MetricsCollector.request_meter` and `.batch_meter` and used by `serve`, once per request and once
per batch.
"""

from __future__ import annotations

from collections.abc import Callable


class RequestMeter:
    """Counts and times the requests of one model over one protocol. Safe to share between threads."""

    __slots__ = ("_count_of", "_counts", "_observe_latency")

    def __init__(
        self, count_of: Callable[[int | str], Callable[[], None]], observe_latency: Callable[[float], None]
    ) -> None:
        self._count_of = count_of
        self._observe_latency = observe_latency
        self._counts: dict[int | str, Callable[[], None]] = {}

    def answered(self, status: int | str, latency_s: float) -> None:
        """Count one answer with `status` (HTTP number or gRPC name) that took `latency_s` seconds from arrival."""
        count = self._counts.get(status)
        if count is None:
            count = self._counts[status] = self._count_of(status)
        count()
        self._observe_latency(latency_s)


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
