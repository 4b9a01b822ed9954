"""What is served and how it is asked: one row of 32 numbers, as JSON, for a 32-256-256-10 network in ONNX Runtime on
one thread. No server library is imported here, so that any peer's environment can read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.measure import Quantity
from benchmarks.serving.load import Load

NUM_FEATURES = 32
NUM_CLASSES = 10
HIDDEN = (256, 256)


@dataclass(frozen=True, slots=True)
class Case:
    """One way of asking: so many connections, and which figure of the load counts."""

    name: str
    num_connections: int
    quantity: Quantity
    figure: Callable[[Load], float]


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("mlp-json-c32", 32, Quantity("requests/s", is_higher_better=True), lambda load: load.requests_per_s),
        Case("mlp-json-c1-p50", 1, Quantity("ms", is_higher_better=False), lambda load: load.p50_ms),
    )
}


BARS: Mapping[tuple[str, str], float] = {
    ("mlp-json-c32", "floor"): 1.1,
    ("mlp-json-c32", "mosec"): 2.3,
    ("mlp-json-c32", "triton"): 5.0,
    ("mlp-json-c32", "fastapi"): 5.0,
    ("mlp-json-c32", "mlserver"): 8.0,
    ("mlp-json-c32", "litserve"): 12.0,
    ("mlp-json-c32", "bentoml"): 16.0,
    ("mlp-json-c32", "ray-serve"): 40.0,
    ("mlp-json-c1-p50", "fastapi"): 1.4,
    ("mlp-json-c1-p50", "floor"): 0.75,
    ("cnn-rows32-c8", "raw-runtime"): 0.85,
    ("minilm-c8", "raw-runtime"): 0.9,
}

RAW_RUNTIME = "raw-runtime"
REQUESTS = Quantity("requests/s", is_higher_better=True)


@dataclass(frozen=True, slots=True)
class RawCase:
    """Requests of `num_rows` rows of binary tensors for `net` over so many connections, to `--workers` so many."""

    name: str
    net: str
    num_rows: int
    num_connections: int
    workers: str = "auto"  # one for each CPU, as the bare loop has them all


RAW_CASES: Mapping[str, RawCase] = {
    case.name: case
    for case in (
        RawCase("cnn-rows32-c8", "cnn", 32, 8),
        RawCase("cnn-rows32-c8-one-worker", "cnn", 32, 8, "1"),
        RawCase("minilm-c8", "minilm", 1, 8),
    )
}


def example_row() -> list[float]:
    """The row that every request carries: 32 numbers with four decimals."""
    values = np.random.default_rng(0).normal(size=NUM_FEATURES)
    return [round(float(value), 4) for value in values]
