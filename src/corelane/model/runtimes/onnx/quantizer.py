"""Static quantisation of a float32 graph by ONNX Runtime: int8 weights per channel, activations of 8 or 16 bits.

The graphs it makes hold QuantizeLinear and DequantizeLinear (QDQ), which ONNX Runtime and OpenVINO run in whole
numbers. Activations of 8 bits are unsigned and weights signed: that is what VNNI and AMX multiply, and signed ones took
OpenVINO three to four times as long (docs/LOG.md). What has no weight (softmax, normalisation, attention's products)
and embeddings stay float32: they cost accuracy and little time. Jacob et al., "Quantization and training of neural
networks for efficient integer-arithmetic-only inference", CVPR 2018. Imports onnx, and nothing of torch.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    create_calibrator,
)

from corelane.core.types import NamedArrays
from corelane.model.graph_bytes import stripped

Activations = Literal["int8", "int16"]
Method = Literal["minmax", "entropy", "percentile"]
"""How the range of an activation is taken from what was seen: all of it, the part that keeps most of the information,
or all but the most extreme ten-thousandth.
"""

MAX_REASON = 300  # characters of what the quantiser says: a line of a table
PERCENTILE = 99.99  # of what was seen; 512 rows of 100 numbers have then five that are cut off
INT16_OPSET = 21  # the first in which 16 bits are ONNX's own; before, they are an extension of ONNX Runtime's
_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
_ACTIVATIONS = {"int8": QuantType.QUInt8, "int16": QuantType.QInt16}
_LAYERS = ("Conv", "Gemm", "MatMul")
_BETWEEN = ("Relu", "Clip", "MaxPool", "AveragePool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")
"""Operators that take whole numbers as they are, where a layer before them gives some."""


class QuantizeError(Exception):
    """The quantiser of ONNX Runtime cannot make a graph of this one, and says why in its own words."""


@contextmanager
def _told_as_one() -> Iterator[None]:
    """What the quantiser, which was written for graphs it knows, raises for another one: anything."""
    try:
        yield
    except Exception as error:
        raise QuantizeError(f"{type(error).__name__}: {error}"[:MAX_REASON]) from error


class Quantizer:
    """Makes quantised graphs of one float32 graph, whose activations were observed once.

    `layers` names the nodes that multiply by a weight, in the order in which they run.
    """

    def __init__(self, graph: bytes, calibration: Sequence[NamedArrays], *, method: Method = "minmax") -> None:
        """Run `graph` on the batches of `calibration`, as the pipeline makes them, for the activations' ranges.

        Raises `QuantizeError`.
        """
        with _told_as_one():
            self._graph = _prepared(graph)
            self._ranges = _ranges(self._graph, calibration, method)
        model = onnx.load_from_string(self._graph)
        weights = {tensor.name for tensor in model.graph.initializer}
        products = [node for node in model.graph.node if node.op_type in _LAYERS]
        self.layers = tuple(node.name for node in products if weights & set(node.input))
        self._weightless = [node.name for node in products if not weights & set(node.input)]

    def quantized(self, activations: Activations = "int8", *, keep: Collection[str] = ()) -> bytes:
        """The graph with int8 weights and `activations`, but for the layers in `keep`, which stay float32.

        Raises `QuantizeError`.
        """
        with _told_as_one():
            return self._quantized(activations, keep)

    def _quantized(self, activations: Activations, keep: Collection[str]) -> bytes:
        model = onnx.load_from_string(self._graph)
        (opset,) = (entry.version for entry in model.opset_import if not entry.domain)
        if activations == "int16" and opset < INT16_OPSET:
            model = onnx.version_converter.convert_version(model, INT16_OPSET)
        model = onnx.shape_inference.infer_shapes(model)
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=_ACTIVATIONS[activations],
            tensors_range=self._ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=[*self._weightless, *keep],
            op_types_to_quantize=[*_LAYERS, *_BETWEEN],
            extra_options={},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        made = quantizer.model.model
        _unround_outputs(made.graph)
        return stripped(made)


def _prepared(graph: bytes) -> bytes:
    """`graph` with its constants folded, and with normalisation and additions merged into the layers before them."""
    with TemporaryDirectory(prefix="corelane-quantize-") as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder, "prepared.onnx"))
        options.log_severity_level = 3
        onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        model = onnx.load(options.optimized_model_filepath)
    used = {node.domain for node in model.graph.node}
    imports = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]  # the optimiser names every domain that it knows
    model.opset_import.extend(imports)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    prepared: bytes = model.SerializeToString(deterministic=True)
    return prepared


def _unround_outputs(graph: onnx.GraphProto) -> None:
    """Let the outputs of `graph` be what the last layers give: they were rounded for a layer that does not follow.

    It costs no time, and rounding was half of the error of the logits or more (docs/LOG.md).
    """
    makers = {name: node for node in graph.node for name in node.output}
    for output in graph.output:
        dequantize = makers.get(output.name)
        if dequantize is None or not dequantize.input:  # an output that no node gives, or a constant
            continue
        quantize = makers.get(dequantize.input[0])
        if dequantize.op_type == "DequantizeLinear" and quantize is not None and quantize.op_type == "QuantizeLinear":
            exact = quantize.input[0]
            graph.node.remove(dequantize)
            graph.node.remove(quantize)
            for node in graph.node:
                _rename(node.input, exact, output.name)
                _rename(node.output, exact, output.name)


def _rename(names: Any, old: str, new: str) -> None:
    names[:] = [new if name == old else name for name in names]


def _ranges(graph: bytes, calibration: Sequence[NamedArrays], method: Method) -> Any:
    with TemporaryDirectory(prefix="corelane-quantize-") as folder, redirect_stdout(io.StringIO()):
        path = Path(folder, "graph.onnx")
        path.write_bytes(graph)
        calibrator = create_calibrator(
            path,
            [*_LAYERS, *_BETWEEN],
            augmented_model_path=str(Path(folder, "augmented.onnx")),
            calibrate_method=_METHODS[method],
            extra_options={"symmetric": False} | ({"percentile": PERCENTILE} if method == "percentile" else {}),
        )
        for batch in calibration:  # one at a time: it holds every activation of what it is given
            calibrator.collect_data(_One(batch))
        return calibrator.compute_data()


class _One(CalibrationDataReader):  # type: ignore[misc]
    """One batch, as the calibrator asks for it."""

    def __init__(self, batch: NamedArrays) -> None:
        self._batches: Iterator[NamedArrays] = iter([batch])

    def get_next(self) -> dict[str, Any] | None:
        """The batch, then None."""
        batch = next(self._batches, None)
        return None if batch is None else dict(batch)
