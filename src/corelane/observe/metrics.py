"""`MetricsCollector` turns records and measurements into the Prometheus instruments that `instruments.py` declares.

It owns one registry. It measures nothing itself: readings (CPU time, memory, queue depth) are handed in with `watch`
and taken whenever `render` is called. Called by `SystemLogger`, `serve`, `train`, `data` and, for the exposition, by
`web` and the supervisor's children.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from corelane.core.errors import ConfigError
from corelane.observe.instruments import AREAS, INSTRUMENTS, Instrument
from corelane.observe.meters import BatchMeter, RequestMeter

CONTENT_TYPE: Final = prometheus_client.CONTENT_TYPE_PLAIN_0_0_4
"""HTTP content type of what `render` returns."""

MAX_SERIES_PER_INSTRUMENT = (
    1000  # label values beyond that become "other": a client must not be able to grow our memory
)
MAX_LABEL_LENGTH = 120  # characters; model and worker names are shorter, so a longer value was not ours
OTHER = "other"

Metric: TypeAlias = Counter | Gauge | Histogram
MetricT = TypeVar("MetricT", Counter, Gauge, Histogram)

# `_created` series would double the exposition, and nothing of ours reads them.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(slots=True)
class _Reading:
    """Where a watched instrument's value comes from and goes to, and a counter's total as last taken."""

    read: Callable[[], float]
    metric: Metric
    last: float = 0.0

    def take(self, value: float) -> None:
        if isinstance(self.metric, Gauge):
            self.metric.set(value)
        elif isinstance(self.metric, Counter):
            self.metric.inc(max(0.0, value - self.last))
            self.last = max(self.last, value)


class MetricsCollector:
    """Owns the instruments of one process and nothing else. Every method may be called from any thread.

    The counters and histograms of an area appear in the exposition once the area is used (`system` is there from the
    start), a gauge once it has a value.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._lock = threading.RLock()  # reentrant: a signal handler may log while the main thread is in here
        self._metrics: dict[str, Metric] = {}
        self._series: dict[str, set[tuple[str, ...]]] = {}
        self._readings: dict[tuple[str, tuple[str, ...]], _Reading] = {}
        self._meters: dict[tuple[str, str], RequestMeter] = {}
        self._batch_meters: dict[str, BatchMeter] = {}
        self.gauge("corelane_system_up").set(1)

    # --- records ------------------------------------------------------------------------------------------------------

    def record(self, stream: str, entry: Mapping[str, Any]) -> None:
        """Feed every instrument that has one of `entry`'s keys among its `fields` (see `instruments.py`).

        `stream` is `training`, `inference`, `system` or `data`. The mappings under `metrics` and `timing` count as if
        their keys stood in the entry itself. Keys that feed nothing and values that are None are ignored.

        Raises `ConfigError` for an unknown stream, a value that is not a number, or a counter that would go back.
        """
        if stream not in AREAS:
            raise ConfigError(f"stream must be one of {', '.join(AREAS)}, got {stream!r}")
        flat = {**entry, **entry.get("metrics", {}), **entry.get("timing", {})}
        for field, instrument in _FIELDS[stream].items():
            if flat.get(field) is not None:
                self._feed(instrument, field, flat)

    def _feed(self, instrument: Instrument, field: str, entry: Mapping[str, Any]) -> None:
        labels = (field if name == instrument.field_label else entry.get(name, OTHER) for name in instrument.labels)
        metric = self._child(instrument.name, _label_texts(labels))
        try:
            value = float(entry[field])
            if isinstance(metric, Gauge):
                metric.set(value)
            elif isinstance(metric, Counter):
                metric.inc(value)
            else:
                metric.observe(value)
        except (TypeError, ValueError) as error:
            constraint = "a number of at least 0" if instrument.kind == "counter" else "a number"
            raise ConfigError(
                f"{field} must be {constraint}, got {entry[field]!r}; {instrument.name} needs it"
            ) from error

    # --- single instruments -------------------------------------------------------------------------------------------

    def counter(self, name: str, *label_values: object) -> Counter:
        """The counter `name` for these label values, in declared order. Keep the result: binding costs more than use.

        Raises `ConfigError` when `instruments.py` declares no such counter with that many labels.
        """
        return self._bound(Counter, name, label_values)

    def gauge(self, name: str, *label_values: object) -> Gauge:
        """The gauge `name` for these label values; as `counter`."""
        return self._bound(Gauge, name, label_values)

    def histogram(self, name: str, *label_values: object) -> Histogram:
        """The histogram `name` for these label values; as `counter`."""
        return self._bound(Histogram, name, label_values)

    def watch(self, name: str, read: Callable[[], float], *label_values: object) -> None:
        """Take the value of the gauge or counter `name`, for these label values, from `read()` at every `render`.

        For a counter `read` returns the total so far; a total that went back is ignored until it passes the old one.
        """
        instrument = _declared(name)
        if instrument.kind == "histogram" or len(label_values) != len(instrument.labels):
            raise ConfigError(f"a watched instrument must be a gauge or counter with its labels, got {name!r}")
        with self._lock:
            metric = self._child(name, _label_texts(label_values))
            self._readings[name, _label_texts(label_values)] = _Reading(read, metric)

    # --- the serving hot path -----------------------------------------------------------------------------------------

    def request_meter(self, model: str, protocol: str) -> RequestMeter:
        """The meter for the requests of `model` over `protocol` (`http`, `grpc`, ...); ask once, use per request."""
        with self._lock:
            meter = self._meters.get((model, protocol))
            if meter is None:
                meter = self._meters[model, protocol] = RequestMeter(
                    lambda status: self.counter("corelane_inference_requests_total", model, protocol, status).inc,
                    self.histogram("corelane_inference_latency_seconds", model, protocol),
                )
            return meter

    def batch_meter(self, model: str) -> BatchMeter:
        """The meter for the batches of `model`; ask once, use per batch."""
        with self._lock:
            meter = self._batch_meters.get(model)
            if meter is None:
                meter = self._batch_meters[model] = BatchMeter(
                    self.histogram("corelane_inference_batch_rows", model),
                    self.histogram("corelane_inference_compute_seconds", model),
                )
            return meter

    # --- exposition ---------------------------------------------------------------------------------------------------

    def render(self) -> bytes:
        """Everything in Prometheus' text format (UTF-8), after taking the watched readings. Serve as `CONTENT_TYPE`."""
        with self._lock:
            readings = list(self._readings.values())
            meters: list[RequestMeter | BatchMeter] = [*self._meters.values(), *self._batch_meters.values()]
        for meter in meters:
            meter.flush()
        values = [float(reading.read()) for reading in readings]  # without the lock: a reading may be slow
        with self._lock:
            for reading, value in zip(readings, values, strict=True):
                reading.take(value)
        return prometheus_client.generate_latest(self.registry)

    def _bound(self, kind: type[MetricT], name: str, label_values: tuple[object, ...]) -> MetricT:
        instrument = _declared(name)
        if len(label_values) != len(instrument.labels):
            wanted = ", ".join(instrument.labels) or "no labels"
            raise ConfigError(f"label values of {name} must be {wanted}, got {label_values!r}")
        metric = self._child(name, _label_texts(label_values))
        if not isinstance(metric, kind):
            raise ConfigError(f"{name} must be a {kind.__name__.lower()}, got the {instrument.kind} that is declared")
        return metric

    def _child(self, name: str, label_values: tuple[str, ...]) -> Metric:
        with self._lock:
            metric = self._metrics.get(name) or self._built(INSTRUMENTS[name])
            if not label_values:
                return metric
            known = self._series.setdefault(name, set())
            if label_values not in known:
                if len(known) >= MAX_SERIES_PER_INSTRUMENT:
                    label_values = (OTHER,) * len(label_values)
                known.add(label_values)
            return metric.labels(*label_values)

    def _built(self, wanted: Instrument) -> Metric:
        # A counter that stands at 0 is a fact, a loss that stands at 0 is not: gauges wait for their first value.
        for instrument in INSTRUMENTS.values():
            is_due = instrument is wanted or (instrument.area == wanted.area and instrument.kind != "gauge")
            if is_due and instrument.name not in self._metrics:
                self._metrics[instrument.name] = _build(instrument, self.registry)
        return self._metrics[wanted.name]


def _label_texts(values: Any) -> tuple[str, ...]:
    """Label values as text; what is too long to be a name of ours becomes `other`."""
    texts = (str(value) for value in values)
    return tuple(text if len(text) <= MAX_LABEL_LENGTH else OTHER for text in texts)


def _declared(name: str) -> Instrument:
    if name not in INSTRUMENTS:
        raise ConfigError(f"metric must be declared in observe/instruments.py, got {name!r}")
    return INSTRUMENTS[name]


def _build(instrument: Instrument, registry: CollectorRegistry) -> Metric:
    if instrument.kind == "counter":
        return Counter(instrument.name, instrument.help, instrument.labels, registry=registry)
    if instrument.kind == "gauge":
        return Gauge(instrument.name, instrument.help, instrument.labels, registry=registry)
    return Histogram(instrument.name, instrument.help, instrument.labels, registry=registry, buckets=instrument.buckets)


def _fields_of(area: str) -> dict[str, Instrument]:
    # Memory stands in every stream's entries (the training entry has it too), so `system` fields are read there too.
    fields = {field: one for one in INSTRUMENTS.values() if one.area == area for field in one.fields}
    return {"memory_usage": INSTRUMENTS["corelane_system_resident_bytes"], **fields}


_FIELDS: Mapping[str, Mapping[str, Instrument]] = {area: _fields_of(area) for area in AREAS}
