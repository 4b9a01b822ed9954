"""What a graph that is not in a package yet answers: the measure by which quantised graphs are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from corelane.core.types import FloatArray, NamedArrays
from corelane.model.candidate import SAFE
from corelane.model.runtimes.graph_file import GraphFile
from corelane.model.runtimes.opening import open_runtime


def logits_of(graph: bytes, batches: Sequence[NamedArrays]) -> FloatArray:
    """What `graph` gives for the n rows of `batches`, in ONNX Runtime on one thread: float32 [n, all its outputs]."""
    runtime = open_runtime(GraphFile(graph), SAFE)
    parts = [_flat(runtime.run(batch)) for batch in batches]
    runtime.close()
    return np.concatenate(parts)


def error_of(graph: bytes, batches: Sequence[NamedArrays], exact: FloatArray) -> float:
    """Mean squared distance of the logits of `graph` from `exact`, in deviations of the latter; infinite if one is."""
    with np.errstate(over="ignore", invalid="ignore"):
        error = float(np.mean(np.square(logits_of(graph, batches) - exact)) / (np.var(exact) + 1e-12))
    return error if np.isfinite(error) else np.inf


def _flat(outputs: NamedArrays) -> FloatArray:
    """All numbers of a row side by side."""
    return np.concatenate(
        [array.reshape(len(array), math.prod(array.shape[1:])) for array in outputs.values()], axis=1, dtype=np.float32
    )
