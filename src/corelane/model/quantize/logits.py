"""What a graph that is not in a package yet answers: the measure by which quantised graphs are compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from corelane.core.types import FloatArray, NamedArrays
from corelane.model.candidate import SAFE
from corelane.model.runtimes.base import LOGITS
from corelane.model.runtimes.opening import open_runtime


def logits_of(graph: bytes, batches: Sequence[NamedArrays]) -> FloatArray:
    """Logits float32 [n, num_outputs] of `graph` for the n rows of `batches`, in ONNX Runtime on one thread."""
    with TemporaryDirectory(prefix="corelane-graph-") as folder:
        path = Path(folder, "graph.onnx")
        path.write_bytes(graph)
        runtime = open_runtime(path, SAFE)
    logits = np.concatenate([runtime.run(batch)[LOGITS] for batch in batches])
    runtime.close()
    return logits


def error_of(graph: bytes, batches: Sequence[NamedArrays], exact: FloatArray) -> float:
    """Mean squared distance of the logits of `graph` from `exact`, in deviations of the latter; infinite if one is."""
    with np.errstate(over="ignore", invalid="ignore"):
        error = float(np.mean(np.square(logits_of(graph, batches) - exact)) / (np.var(exact) + 1e-12))
    return error if np.isfinite(error) else np.inf
