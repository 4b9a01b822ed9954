"""Several processes' Prometheus expositions as one: what the supervisor serves for its workers.

Counters and histograms are added up, so that a dashboard sees one service; gauges cannot be added in general (a
maximum? a sum?) and are kept apart by a `worker` label. Called by the supervisor, with one text per worker.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from corelane.core.errors import DataError

SUMMED = frozenset({"counter", "histogram"})
WORKER_LABEL = "worker"

SampleKey = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(slots=True)
class _Family:
    kind: str
    help: str
    values: dict[SampleKey, float] = field(default_factory=dict)


def merge_expositions(texts: Mapping[str, bytes]) -> bytes:
    """One exposition from `texts`, which holds each process's exposition by worker name.

    Samples of counters and histograms with equal labels are summed; every other sample gets a `worker` label, unless
    it has one. Families keep the order in which they first appear. Raises `DataError` naming the worker whose text is
    torn, is not an exposition, or declares a family with another type than the workers before it.
    """
    families: dict[str, _Family] = {}
    for worker, text in texts.items():
        for name, family in _parse(worker, text).items():
            into = families.setdefault(name, _Family(family.kind, family.help))
            if into.kind != family.kind:
                raise DataError(f"the metric {name} of worker {worker!r} must be a {into.kind}, got a {family.kind}")
            _add(into, family, worker)
    return _write(families)


def counters_only(text: bytes, worker: str = "") -> bytes:
    """The counters and histograms of one exposition: what is kept of a process that has died.

    Merged with the expositions of the living, a counter never goes back. Raises `DataError` as `merge_expositions`
    does.
    """
    return _write({name: family for name, family in _parse(worker, text).items() if family.kind in SUMMED})


def _parse(worker: str, text: bytes) -> dict[str, _Family]:
    if text and not text.endswith(b"\n"):
        raise DataError(
            f"the exposition of worker {worker!r} must end with a line break, got a torn one; read it again"
        )
    families: dict[str, _Family] = {}
    try:
        for metric in text_string_to_metric_families(text.decode("utf-8")):
            name = metric.name + "_total" if metric.type == "counter" else metric.name
            family = families.setdefault(name, _Family(metric.type, metric.documentation))
            for sample in metric.samples:
                key = (sample.name, tuple(sample.labels.items()))
                family.values[key] = family.values.get(key, 0.0) + float(sample.value)
    except (ValueError, KeyError, IndexError) as error:  # all three come out of the parser for malformed text
        raise DataError(
            f"the exposition of worker {worker!r} must be Prometheus text, got {error}; look at that worker"
        ) from error
    return families


def _add(into: _Family, family: _Family, worker: str) -> None:
    for (name, labels), value in family.values.items():
        if family.kind in SUMMED:
            key = (name, labels)
            into.values[key] = into.values.get(key, 0.0) + value
        elif any(label == WORKER_LABEL for label, _ in labels):
            into.values[name, labels] = value
        else:
            into.values[name, (*labels, (WORKER_LABEL, worker))] = value


def _write(families: Mapping[str, _Family]) -> bytes:
    lines: list[str] = []
    for name, family in families.items():
        kind = "untyped" if family.kind == "unknown" else family.kind
        lines += [f"# HELP {name} {_escape_help(family.help)}", f"# TYPE {name} {kind}"]
        lines += [f"{sample}{_labels(labels)} {_number(value)}" for (sample, labels), value in family.values.items()]
    return "".join(f"{line}\n" for line in lines).encode("utf-8")


def _labels(labels: Iterable[tuple[str, str]]) -> str:
    pairs = ",".join(f'{name}="{_escape_value(value)}"' for name, value in labels)
    return f"{{{pairs}}}" if pairs else ""


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def _escape_value(text: str) -> str:
    return _escape_help(text).replace('"', '\\"')


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
