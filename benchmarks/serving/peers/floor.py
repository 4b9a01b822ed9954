"""The floor under every Python server of this kind: a bare Granian RSGI handler, orjson in and out, one run of the
graph per request. No routing, no checks, no limits, no batching, no metrics.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.endpoint import HOST, Endpoint, plain_body, plain_label

CASES = ("mlp-json-c32", "mlp-json-c1-p50")
GRAPH = "BENCHMARK_GRAPH"  # Granian's worker is a process of its own and is told by the environment


def endpoint(python: str, graph: Path, row: Sequence[float]) -> Endpoint:
    """One Granian worker."""

    def command(port: int) -> list[str]:
        return [python, "-m", "benchmarks.serving.peers.floor", str(graph), str(port)]

    return Endpoint("/", plain_body(row), plain_label, command)


def application() -> Callable[[Any, Any], Awaitable[None]]:
    """The RSGI application, made in the worker."""
    import numpy as np
    import onnxruntime
    import orjson

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.environ[GRAPH], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    headers = [("content-type", "application/json")]

    async def handle(_scope: Any, protocol: Any) -> None:
        rows = orjson.loads(await protocol())["x"]
        (logits,) = session.run(None, {name: np.asarray(rows, np.float32)})
        protocol.response_bytes(200, headers, orjson.dumps({"y": logits}, option=orjson.OPT_SERIALIZE_NUMPY))

    return handle


def main(graph: str, port: str) -> None:
    """Serve until stopped."""
    from granian import Granian
    from granian.constants import Interfaces, Loops

    os.environ[GRAPH] = graph
    Granian(
        "benchmarks.serving.peers.floor:application",
        factory=True,
        address=HOST,
        port=int(port),
        interface=Interfaces.RSGI,
        workers=1,
        loop=Loops.uvloop,
        log_enabled=False,
    ).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
