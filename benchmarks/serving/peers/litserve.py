"""LitServe: one worker, at most 32 rows in 2 ms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.endpoint import Endpoint, plain_body, plain_label
from benchmarks.serving.session import with_graph

CASES = ("mlp-json-c32", "mlp-json-c1-p50")


def endpoint(python: str, graph: Path, row: Sequence[float]) -> Endpoint:
    """One worker."""

    def command(port: int) -> list[str]:
        return with_graph(graph, [python, "-m", "benchmarks.serving.services.litserve", str(port)])

    return Endpoint("/predict", plain_body(row), plain_label, command)
