"""BentoML: one worker, adaptive batches of at most 32 rows, 50 ms a request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.endpoint import HOST, Endpoint, plain_body
from benchmarks.serving.session import with_graph

CASES = ("mlp-json-c32", "mlp-json-c1-p50")
MAY_FAIL = True
"""It gives up requests that it expects to take longer than 50 ms: they count as no answers."""


def endpoint(python: str, graph: Path, row: Sequence[float]) -> Endpoint:
    """One worker; it answers with a bare list."""

    def command(port: int) -> list[str]:
        serve = [python, "-m", "bentoml", "serve", "benchmarks.serving.services.bentoml:Network"]
        return with_graph(graph, [*serve, "--host", HOST, "--port", str(port)], BENTOML_DO_NOT_TRACK="true")

    return Endpoint("/predict", plain_body(row), _label, command)


def _label(reply: bytes) -> int:
    (logits,) = json.loads(reply)
    return max(range(len(logits)), key=logits.__getitem__)
