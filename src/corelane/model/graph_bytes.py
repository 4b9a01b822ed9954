"""An ONNX model as the bytes of a package's file: nothing of the machine that made it, always the same. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


def rename_values(graph: Any, names: Mapping[str, str]) -> None:
    """Give values of an ONNX `graph`, its inputs, weights and what nodes give, other names, wherever they are used."""
    for message in messages_in(graph):
        kind = message.DESCRIPTOR.name
        if kind == "NodeProto":
            message.input[:] = [names.get(name, name) for name in message.input]
            message.output[:] = [names.get(name, name) for name in message.output]
        elif kind in ("ValueInfoProto", "TensorProto") and message.name in names:
            message.name = names[message.name]


def messages_in(message: Any) -> Iterator[Any]:
    """`message` and every message in it, one after another: graphs in graphs, at any depth, without recursion."""
    waiting = [message]
    while waiting:
        one = waiting.pop()
        yield one
        for field, value in one.ListFields():
            if field.type == field.TYPE_MESSAGE:
                waiting.extend(value if field.is_repeated else (value,))


def _clear_traces(message: Any) -> None:
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.type == field.TYPE_MESSAGE:
            for child in value if field.is_repeated else (value,):
                _clear_traces(child)
