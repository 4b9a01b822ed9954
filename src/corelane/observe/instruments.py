"""Every Prometheus instrument of Corelane, declared once, as data.

A name reads `corelane_<area>_<what>_<unit>`, with `_total` after it for counters; the unit is left out only for a
quantity that has none. `MetricsCollector` builds the instruments of an area when the area is first used, and
`record(stream, entry)` feeds an instrument from the entry's keys listed in `fields`. Nothing else in the system may
make up a metric's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Area: TypeAlias = Literal["training", "inference", "system", "data"]
AREAS: tuple[Area, ...] = get_args(Area)


@dataclass(frozen=True, slots=True)
class Instrument:
    """One instrument.

    `fields` are the keys of a `record` entry that feed it: a gauge is set, a counter grows by the value, a histogram
    observes it. Label values are taken from the entry's keys of the same name; `field_label`, where it is set, is the
    label that takes the name of the field instead (one instrument for several named qualities).
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    unit: str = ""
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    fields: tuple[str, ...] = ()
    field_label: str = ""

    @property
    def area(self) -> str:
        """The second word of the name: `training`, `inference`, `system`, `data` or `cache`."""
        return self.name.split("_", 2)[1]


# From 100 us (a small model answers in about that) to the default request timeout of 30 s.
LATENCY_BUCKETS_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
# A graph run takes from about 10 us (a linear model, one row) to seconds (a large batch of images).
COMPUTE_BUCKETS_S = (
    *(1e-5, 2.5e-5, 5e-5, 0.0001, 0.00025, 0.0005, 0.001, 0.0025),
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)
# A checkpoint takes the disk's fsync at least (about 1 ms on flash) and a minute on a slow network disk.
CHECKPOINT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# The copy of a small model takes 0.1 ms, of 1 GB 0.5 s; a slow disk before it is waited for.
STALL_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
BATCH_BUCKETS_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

# A closed set, so that the number of series does not depend on what a user calls a metric; other names stay in the log.
QUALITIES = tuple(
    f"{part}{name}"
    for part in ("", "validation_", "test_")
    for name in (
        *("accuracy", "macro_f1", "mae", "rmse", "r2", "loss"),
        *("f1", "auroc", "average_precision", "brier", "subset_accuracy", "micro_f1", "mean_auroc"),
    )
    if part or name != "loss"
)

TRAINING = (
    Instrument("corelane_training_step", "gauge", "Optimiser steps finished.", "step", fields=("step",)),
    Instrument("corelane_training_epoch", "gauge", "The epoch being trained, from 0.", "epoch", fields=("epoch",)),
    Instrument("corelane_training_loss", "gauge", "Training loss at the last logged step.", fields=("loss",)),
    Instrument(
        "corelane_training_quality",
        "gauge",
        "Metrics of the model's quality as last evaluated, by name.",
        labels=("metric",),
        fields=QUALITIES,
        field_label="metric",
    ),
    Instrument(
        "corelane_training_learning_rate", "gauge", "Learning rate at the last logged step.", fields=("learning_rate",)
    ),
    Instrument(
        "corelane_training_gradient_norm",
        "gauge",
        "Norm of the gradients before clipping, at the last logged step.",
        fields=("gradient_norm",),
    ),
    Instrument(
        "corelane_training_examples_total", "counter", "Examples trained on.", "examples", fields=("num_examples",)
    ),
    Instrument(
        "corelane_training_throughput_examples_per_second",
        "gauge",
        "Examples trained per second since the last logged step.",
        "examples_per_second",
        fields=("examples_per_s",),
    ),
    Instrument(
        "corelane_training_saved_step",
        "gauge",
        "Step of the newest checkpoint handed to the disk.",
        "step",
        fields=("saved_step",),
    ),
    Instrument(
        "corelane_training_durable_step",
        "gauge",
        "Step of the newest checkpoint that survives a power cut.",
        "step",
        fields=("durable_step",),
    ),
    Instrument(
        "corelane_training_checkpoint_seconds",
        "histogram",
        "Time to save one checkpoint durably.",
        "seconds",
        buckets=CHECKPOINT_BUCKETS_S,
        fields=("checkpoint_s",),
    ),
    Instrument(
        "corelane_training_checkpoint_stall_seconds",
        "histogram",
        "Time that the training stood still for one checkpoint: the copy, and waiting for the one before.",
        "seconds",
        buckets=STALL_BUCKETS_S,
        fields=("checkpoint_stall_s",),
    ),
    Instrument(
        "corelane_training_checkpoint_failures_total",
        "counter",
        "Checkpoints that could not be written.",
        "failures",
        fields=("checkpoint_failures",),
    ),
    Instrument(
        "corelane_training_skipped_checkpoints_total",
        "counter",
        "Checkpoints left out because the one before was still being written.",
        "checkpoints",
        fields=("skipped_checkpoints",),
    ),
)

INFERENCE = (
    Instrument(
        "corelane_inference_requests_total",
        "counter",
        "Requests answered, by status.",
        "requests",
        labels=("model", "protocol", "status"),
        fields=("num_requests",),
    ),
    Instrument(
        "corelane_inference_latency_seconds",
        "histogram",
        "Time from a request's arrival to its answer.",
        "seconds",
        labels=("model", "protocol"),
        buckets=LATENCY_BUCKETS_S,
        fields=("latency_s",),
    ),
    Instrument(
        "corelane_inference_queue_requests",
        "gauge",
        "Requests that wait in the queue.",
        "requests",
        fields=("queue_requests",),
    ),
    Instrument(
        "corelane_inference_queue_bytes", "gauge", "Bytes of the requests that wait.", "bytes", fields=("queue_bytes",)
    ),
    Instrument(
        "corelane_inference_batch_rows",
        "histogram",
        "Rows that ran together in one batch.",
        "rows",
        labels=("model",),
        buckets=BATCH_BUCKETS_ROWS,
        fields=("batch_rows",),
    ),
    Instrument(
        "corelane_inference_compute_seconds",
        "histogram",
        "Time the model took for one batch.",
        "seconds",
        labels=("model",),
        buckets=COMPUTE_BUCKETS_S,
        fields=("compute_s",),
    ),
    Instrument(
        "corelane_inference_rejected_requests_total",
        "counter",
        "Requests turned away before the model ran, by error code.",
        "requests",
        labels=("reason",),
        fields=("rejected_requests",),
    ),
)

DATA = (
    Instrument("corelane_data_read_rows_total", "counter", "Rows read from sources.", "rows", fields=("read_rows",)),
    Instrument(
        "corelane_data_rejected_rows_total",
        "counter",
        "Rows put into quarantine, by the code of the reason.",
        "rows",
        labels=("reason",),
        fields=("rejected_rows",),
    ),
    Instrument(
        "corelane_data_dropped_rows_total",
        "counter",
        "Rows left out as configured, by the code of their fault, or `copy`.",
        "rows",
        labels=("reason",),
        fields=("dropped_rows",),
    ),
)

SYSTEM = (
    Instrument("corelane_system_up", "gauge", "1 while the process runs."),
    Instrument(
        "corelane_system_cpu_seconds_total",
        "counter",
        "CPU time of the process, user and system.",
        "seconds",
        fields=("cpu_s",),
    ),
    Instrument(
        "corelane_system_resident_bytes", "gauge", "Resident memory of the process.", "bytes", fields=("memory_usage",)
    ),
    Instrument(
        "corelane_system_pool_bytes",
        "gauge",
        "Bytes of a memory pool by state: used (leased or reserved), idle (kept to be leased again), limit.",
        "bytes",
        labels=("pool", "state"),
    ),
    Instrument(
        "corelane_system_worker_restarts_total",
        "counter",
        "Times the supervisor started a worker again.",
        "restarts",
        labels=("worker",),
        fields=("worker_restarts",),
    ),
    Instrument(
        "corelane_system_dropped_log_lines_total",
        "counter",
        "Log lines that could not be written, by stream.",
        "log_lines",
        labels=("stream",),
        fields=("dropped_log_lines",),
    ),
)

# The cache has no stream of its own, its readings are watched. Tiers: memory (L1), disk (L2), shared (L3).
CACHE = (
    Instrument(
        "corelane_cache_hits_total", "counter", "Times a tier had what it was asked for.", "hits", labels=("tier",)
    ),
    Instrument(
        "corelane_cache_misses_total", "counter", "Times a tier did not have it, or had it broken.", "misses", ("tier",)
    ),
    Instrument(
        "corelane_cache_evictions_total", "counter", "Entries given up for others.", "evictions", labels=("tier",)
    ),
    Instrument(
        "corelane_cache_broken_entries_total",
        "counter",
        "Entries found altered, cut or incomplete.",
        "entries",
        labels=("tier",),
    ),
    Instrument(
        "corelane_cache_size_bytes",
        "gauge",
        "Bytes that a tier holds; of the shared one what this process put there.",
        "bytes",
        labels=("tier",),
    ),
)

INSTRUMENTS: Mapping[str, Instrument] = {
    instrument.name: instrument for instrument in (*TRAINING, *INFERENCE, *DATA, *SYSTEM, *CACHE)
}
"""All instruments by name."""
