"""Is a foreign ONNX file a graph we may run? Looked at in a process of its own, whose memory and time are bounded.

Refused are: what is no ONNX, versions and operators that the runtime does not have, references to other files, graphs
of more nodes than any real one, and ends that are no tensors with rows. Imports onnx.
"""

from __future__ import annotations

from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import defs, helper

from corelane.core.errors import BundleError, ConfigError
from corelane.data.stages.column import ARRAY_TYPES, FREE
from corelane.model.foreign.description import ForeignGraph, ForeignTensor
from corelane.model.graph_bytes import messages_in, stripped

OLDEST_OPSET = 7  # of ONNX's own operators: ONNX Runtime promises nothing for those before
SEPARATE_IR = 4  # of the file format: the first in which weights need not be listed among the inputs
MAX_NODES = 100_000  # the largest language models have some tens of thousands
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Whose operators are part of ONNX Runtime: ONNX's two sets, and its own."""


def inspected(content: bytes) -> tuple[ForeignGraph, bytes]:
    """What the graph in `content` takes and gives, and the graph itself without traces of its making.

    Raises `BundleError` for what must not be run, `ConfigError` for what could be but has other ends than ours.
    """
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise BundleError("the model must be an ONNX file, got something else", detail=str(error)) from error
    if not model.graph.node or not model.graph.output:
        raise BundleError("the model must be an ONNX file with a graph of nodes, got none")
    num_nodes = _check_content(model)
    opset = _check_versions(model)
    try:
        model = onnx.shape_inference.infer_shapes(model)  # an output need not say its shape
    except onnx.shape_inference.InferenceError as error:
        raise _invalid(error) from error
    _constants_are_no_inputs(model.graph)
    model.ir_version = max(model.ir_version, SEPARATE_IR)
    described = ForeignGraph(
        inputs=tuple(_tensor(value, "input") for value in model.graph.input),
        outputs=tuple(_tensor(value, "output") for value in model.graph.output),
        opset=opset,
        num_nodes=num_nodes,
    )
    if not described.inputs:
        raise ConfigError("the graph must have an input, got none: it gives the same for every row")
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise _invalid(error) from error
    return described, stripped(model)


def _invalid(error: Exception) -> BundleError:
    reason = str(error).strip().splitlines()[0]
    return BundleError(f"the graph must be valid ONNX, got: {reason}", detail=str(error))


def _check_content(model: Any) -> int:
    """The number of nodes, when nothing in the model points out of it and each operator is known."""
    own = {(function.domain, function.name) for function in model.functions}
    num_nodes = 0
    for message in messages_in(model):
        if isinstance(message, onnx.TensorProto):
            if message.data_location == onnx.TensorProto.EXTERNAL or message.external_data:
                raise BundleError(
                    f"the weights must be in the file, got a reference to another file in {message.name[:80]!r}; "
                    "save it as one file"
                )
        elif isinstance(message, onnx.NodeProto):
            num_nodes += 1
            if num_nodes > MAX_NODES:
                raise BundleError(f"the graph must have at most {MAX_NODES} nodes, got more")
            if (message.domain, message.op_type) not in own:
                _check_operator(message)
    return num_nodes


def _check_operator(node: Any) -> None:
    name = f"{node.domain or 'ai.onnx'}.{node.op_type}"[:80]
    if node.domain not in DOMAINS:
        raise BundleError(f"each operator must be one of ONNX Runtime's own, got {name}; export without custom ones")
    domain = "" if node.domain == "ai.onnx" else node.domain
    if domain != "com.microsoft" and not defs.has(node.op_type, domain):
        raise BundleError(f"each operator must be one of ONNX's, got {name}; export with another version")


def _check_versions(model: Any) -> int:
    if model.ir_version > onnx.IR_VERSION:
        raise BundleError(f"the file must be of at most ONNX IR version {onnx.IR_VERSION}, got {model.ir_version}")
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    opset, newest = opsets.get("ai.onnx", 0), defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise BundleError(
            f"the graph's opset must be from {OLDEST_OPSET} to {newest}, got {opset or 'none'}; export with another"
        )
    return int(opset)


def _constants_are_no_inputs(graph: Any) -> None:
    """Older files list each weight among the inputs too, as a default that a caller may replace; nobody does."""
    constants = {tensor.name for tensor in graph.initializer} | {one.values.name for one in graph.sparse_initializer}
    for value in [value for value in graph.input if value.name in constants]:
        graph.input.remove(value)


def _tensor(value: Any, what: str) -> ForeignTensor:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise ConfigError(
            f"each {what} must be a tensor, got {value.name[:80]!r}, a {kind}; export without it "
            "(from scikit-learn: zipmap=False)"
        )
    tensor = value.type.tensor_type
    try:
        dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except (KeyError, ValueError):
        dtype = f"type {tensor.elem_type}"
    if dtype not in ARRAY_TYPES:
        raise ConfigError(
            f"each {what} must be of a type among {', '.join(ARRAY_TYPES)}, got {value.name[:80]!r} of {dtype}; "
            "export it otherwise"
        )
    if not tensor.HasField("shape") or not tensor.shape.dim:
        raise ConfigError(
            f"each {what} must have a known number of axes, the first of them the rows, got {value.name[:80]!r} "
            "without; export it with shapes"
        )
    first, *lengths = (dim.dim_value if dim.HasField("dim_value") else FREE for dim in tensor.shape.dim)
    if first not in (FREE, 1):
        raise ConfigError(
            f"the first axis of each {what} must be the rows, any number of them, got {first} in {value.name[:80]!r}; "
            "export it with a free first axis"
        )
    return ForeignTensor(name=value.name, dtype=dtype, shape=tuple(lengths))
