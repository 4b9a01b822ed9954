"""An ONNX model as the bytes of a package's file: nothing of the machine that made it, always the same. No torch."""

from __future__ import annotations

from typing import Any

PRODUCER = "corelane"


def stripped(model: Any) -> bytes:
    """`model` without the exporter's traces: source lines, stack traces and paths of this machine are in them."""
    _clear_traces(model)
    model.producer_name, model.producer_version = PRODUCER, ""
    del model.graph.value_info[:]  # shapes of intermediate values; runtimes infer them again
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "rows"
    graph: bytes = model.SerializeToString(deterministic=True)
    return graph


def _clear_traces(message: Any) -> None:
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.type == field.TYPE_MESSAGE:
            for child in value if field.is_repeated else (value,):
                _clear_traces(child)
