"""OpenVINO behind the `Runtime` protocol: loads one graph file and runs it on the CPU.

Threads, streams and precision are the caller's. Left alone, OpenVINO would take every core, pin threads to them, and
compute in bfloat16 wherever the CPU can. Graphs with QuantizeLinear and DequantizeLinear run in whole numbers here.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from corelane.core.errors import BundleError
from corelane.core.types import Array, NamedArrays
from corelane.model.graph_bytes import messages_in
from corelane.model.runtimes.base import RowShape, closed, unfit
from corelane.model.runtimes.graph_file import GraphFile, not_runnable
from corelane.model.runtimes.openvino.library import load_openvino, openvino_core


class OpenVinoRuntime:
    """One compiled model, with one infer request for each thread that calls. May be shared by threads."""

    def __init__(self, graph: GraphFile, *, num_threads: int = 1, num_streams: int = 1, is_bf16: bool = False) -> None:
        """Load `graph` for `num_streams` calls at the same time, `num_threads` threads each.

        With `is_bf16` matrix products are of bfloat16, where the CPU has it. Raises `BundleError` when it is not a
        graph we can run, `MissingDependencyError` where OpenVINO is not installed.
        """
        openvino = load_openvino()
        _refuse_other_files(graph)
        options = {
            "NUM_STREAMS": num_streams,
            "INFERENCE_NUM_THREADS": num_streams * num_threads,
            "INFERENCE_PRECISION_HINT": "bf16" if is_bf16 else "f32",
            "ENABLE_CPU_PINNING": False,
        }
        try:
            model = openvino_core().read_model(graph.content)
            self._compiled: Any = openvino_core().compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise not_runnable(graph, f"OpenVINO {openvino.__version__}", error) from error
        self.inputs = _row_shapes(model.inputs)
        self.outputs = _row_shapes(model.outputs)
        self._types = {port.get_any_name(): port.get_element_type().to_dtype() for port in model.outputs}
        self._of_thread = threading.local()

    def run(self, inputs: NamedArrays) -> dict[str, Array]:
        """Each output [n, ...] for `inputs` [n, ...].

        Raises `BundleError` when the graph does not take them.
        """
        if not all(map(len, inputs.values())):  # a convolution over no rows is refused
            return {
                name: np.empty((0, *(size or 0 for size in shape)), dtype=self._types[name])
                for name, shape in self.outputs.items()
            }
        request = getattr(self._of_thread, "request", None) or self._new_request()
        try:
            answers = request.infer(inputs, share_inputs=True)
        except RuntimeError as error:
            raise unfit(f"the graph's {self.inputs}", inputs, error) from error
        return {name: answers[index] for index, name in enumerate(self.outputs)}

    def close(self) -> None:
        """Drop the compiled model and every thread's request."""
        self._compiled = None
        self._of_thread = threading.local()

    def _new_request(self) -> Any:
        if self._compiled is None:
            raise closed()
        self._of_thread.request = self._compiled.create_infer_request()
        return self._of_thread.request


def _row_shapes(ports: Any) -> dict[str, RowShape]:
    """Shape of one row of each of a model's inputs or outputs, by the one name that an ONNX graph gives it."""
    return {
        port.get_any_name(): tuple(size.get_length() if size.is_static else None for size in port.get_partial_shape())[
            1:
        ]
        for port in ports
    }


def _refuse_other_files(graph: GraphFile) -> None:
    """OpenVINO reads files that a graph names, absolute paths too, even if it is given bytes; others refuse them."""
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - a server that runs ONNX needs neither
    from onnx import ModelProto, TensorProto  # noqa: PLC0415

    try:
        model = ModelProto.FromString(graph.content)
    except DecodeError as error:
        raise not_runnable(graph, "OpenVINO", error) from error
    tensors = (one for one in messages_in(model) if isinstance(one, TensorProto))
    if any(one.data_location == TensorProto.EXTERNAL for one in tensors):
        raise BundleError(
            f"{graph.name} must hold its own weights, got a reference to another file; package the run again"
        )
