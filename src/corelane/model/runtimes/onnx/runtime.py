"""ONNX Runtime behind the `Runtime` protocol: loads one graph file and runs it on the CPU.

Neither torch nor onnx is imported. The thread count is the caller's (one budget is shared by everything); ONNX
Runtime's own default takes every core it sees.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

# ONNX Runtime keeps a device id and a database of events for its maker unless told not to before it is loaded; its own
# `disable_telemetry_events` comes too late for the files. Nothing that runs here reports anywhere.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from corelane.core.errors import MemoryBudgetError
from corelane.core.types import Array, NamedArrays
from corelane.model.runtimes.base import RowShape, closed, unfit
from corelane.model.runtimes.graph_file import GraphFile, not_runnable
from corelane.model.runtimes.onnx.shared import SharedGraph, shared_graph

_LOAD_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoModel,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


class OnnxRuntime:
    """One ONNX Runtime session; about 1 us of overhead per call beside the library's own. May be shared by threads."""

    def __init__(self, graph: GraphFile, *, num_threads: int = 1, shared: Path | None = None) -> None:
        """Load `graph` with `num_threads` threads per call. Raises `BundleError` when it is not a graph we can run.

        Sessions of all processes that name the same folder `shared` have one copy of its weights, if they are many.
        """
        self._shared = None if shared is None else shared_graph(graph, shared, lambda: _options(num_threads))
        session = _open(graph, num_threads, self._shared)
        self.inputs = {node.name: tuple(map(_size, node.shape[1:])) for node in session.get_inputs()}
        self.outputs = {node.name: tuple(map(_size, node.shape[1:])) for node in session.get_outputs()}
        self._types = {node.name: node.type for node in session.get_outputs()}
        self._output_names = list(self.outputs)
        self._run = session.run

    def run(self, inputs: NamedArrays) -> dict[str, Array]:
        """Each output [n, ...] for `inputs` [n, ...].

        Raises `BundleError` when the graph does not take them (the pipeline made them, so the package is at fault) and
        `MemoryBudgetError` when the library finds no memory for its buffers.
        """
        try:
            if not all(map(len, inputs.values())):  # ONNX Runtime's GRU ends the process when it gets no rows
                return {name: _no_rows(shape, self._types[name]) for name, shape in self.outputs.items()}
            return dict(zip(self._output_names, self._run(self._output_names, inputs), strict=True))
        except (ort_errors.InvalidArgument, ValueError) as error:
            raise unfit(f"the graph's {self.inputs}", inputs, error) from error
        except (ort_errors.Fail, ort_errors.RuntimeException) as error:
            raise MemoryBudgetError(
                "the runtime must have memory for its buffers, got a failure inside ONNX Runtime; send fewer rows",
                detail=str(error),
            ) from error

    def close(self) -> None:
        """Drop the session: its weights, and its threads if it had any."""
        self._run = _closed
        if self._shared is not None:
            self._shared.close()


def _size(dimension: int | str | None) -> int | None:
    return dimension if isinstance(dimension, int) else None


def numpy_type(kind: str) -> np.dtype[Any] | None:
    """NumPy's type for what ONNX Runtime calls `tensor(float)` and the like; None where it has none."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    try:
        return np.dtype({"float": "float32", "double": "float64"}.get(name, name))
    except TypeError:
        return None


def _no_rows(shape: RowShape, kind: str) -> Array:
    return np.empty((0, *(size or 0 for size in shape)), dtype=numpy_type(kind) or np.float32)


def _closed(*_: object) -> list[Array]:
    raise closed()


def _open(graph: GraphFile, num_threads: int, shared: SharedGraph | None) -> onnxruntime.InferenceSession:
    options = _options(num_threads)
    if shared is not None:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it is optimised
        with suppress(*_LOAD_ERRORS):  # torn, where the disk was full: the graph itself is judged without it
            return onnxruntime.InferenceSession(shared.path, options, providers=["CPUExecutionProvider"])
    try:
        # The bytes, not the path: a graph that refers to files beside it is refused, and nothing is read twice.
        return onnxruntime.InferenceSession(graph.content, _options(num_threads), providers=["CPUExecutionProvider"])
    except _LOAD_ERRORS as error:
        raise not_runnable(graph, f"ONNX Runtime {onnxruntime.__version__}", error) from error


def _options(num_threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # what fails is raised, with its words; warnings about the host's topology are noise
    # Pool threads that spin between requests burn the quota that the server's event loop and other models share.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Where the CPU has no VNNI, products of unsigned and signed bytes overflow 16 bits; ONNX Runtime then shifts the
    # weights to unsigned, which is exact. It changes nothing where there is VNNI.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options
