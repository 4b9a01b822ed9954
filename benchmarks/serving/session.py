"""The network as every peer runs it: ONNX Runtime on one thread. Imported in the peers' own environments."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

GRAPH = "BENCHMARK_GRAPH"
"""The environment's name for the graph's file: servers whose workers are processes of their own are told by it."""


def with_graph(graph: Path, command: Sequence[str], **more: str) -> list[str]:
    """`command` with the graph, and `more`, in its environment."""
    return ["env", f"{GRAPH}={graph}", *(f"{name}={value}" for name, value in more.items()), *command]


def opened() -> Callable[[Any], Any]:
    """From float32 rows [n, d] to logits float32 [n, k]."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.environ[GRAPH], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda rows: session.run(None, {name: rows})[0]
