"""Triton, as pytriton packs it: the dynamic batcher before a Python function, at most 32 rows in 2 ms.

Its Python backend needs the shared library of Debian's own Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.endpoint import Endpoint, tensor_body, tensor_label
from benchmarks.serving.session import with_graph

CASES = ("mlp-json-c32", "mlp-json-c1-p50")
NAME = "benchmark"


def endpoint(python: str, graph: Path, row: Sequence[float]) -> Endpoint:
    """One instance of the model."""

    def command(port: int) -> list[str]:
        return with_graph(graph, [python, "-m", "benchmarks.serving.services.triton", str(port)])

    return Endpoint(f"/v2/models/{NAME}/infer", tensor_body(row), tensor_label, command)
