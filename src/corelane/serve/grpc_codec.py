"""The Open Inference Protocol's gRPC messages to a `Request`, and a `Response` to a message.

It only changes the container: tensors become what the binary extension over HTTP has, and the same codec reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from corelane.core.errors import RequestError
from corelane.serve.messages import MESSAGES
from corelane.serve.oip import OipCodec
from corelane.serve.request import Envelope, Request, Response
from corelane.web.tensors import SIZE, TYPES, BinaryParts, write_array

_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""In which field the elements of each type come, where they are not raw."""


class GrpcCodec:
    """Translates for one model. Every `RequestError` names the tensor at fault."""

    def __init__(self, codec: OipCodec) -> None:
        self._codec = codec

    def parse(self, message: Any, envelope: Envelope) -> Request:
        """The request in a ModelInferRequest. Raises `RequestError` for whatever is not one of this model's."""
        raw = message.raw_input_contents
        if raw and len(raw) != len(message.inputs):
            raise RequestError(
                f"raw_input_contents must be one for each input, got {len(raw)} for {len(message.inputs)}"
            )
        contents = [_content(tensor, raw[index] if raw else None) for index, tensor in enumerate(message.inputs)]
        tensors = [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.shape),
                "parameters": {**_parameters(tensor.parameters), SIZE: len(content)},
            }
            for tensor, content in zip(message.inputs, contents, strict=True)
        ]
        body: dict[str, Any] = {"inputs": tensors, "parameters": _parameters(message.parameters)}
        if message.id:
            body["id"] = message.id
        if message.outputs:
            body["outputs"] = [{"name": one.name, "parameters": _parameters(one.parameters)} for one in message.outputs]
        behind = b"".join(contents)
        return self._codec.parse_message(body, BinaryParts(memoryview(behind)), envelope, len(behind))

    def render(self, response: Response) -> Any:
        """A ModelInferResponse with raw contents."""
        request = response.request
        message = MESSAGES["ModelInferResponse"](**self._codec.header, id=request.id or "")
        if response.receipt is not None:
            for name, value in response.receipt.parameters().items():
                message.parameters[name].CopyFrom(_parameter(value))
        for name, datatype in self._codec.output_types(request):
            array = response.outputs[name]
            message.outputs.add(name=name, datatype=datatype, shape=array.shape)
            message.raw_output_contents.append(write_array(array))
        return message


def _content(tensor: Any, raw: bytes | None) -> bytes:
    """A tensor's elements as bytes."""
    given = [field.name for field, _ in tensor.contents.ListFields()]
    if raw is not None:
        if given:
            raise RequestError(f"{tensor.name[:80]!r} must have raw contents or others, got both")
        return raw
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        raise RequestError(
            f"the datatype of {tensor.name[:80]!r} must be one of {', '.join(_CONTENTS)}, got "
            f"{tensor.datatype[:20]!r}; send others as raw contents"
        )
    if given not in ([], [field]):
        raise RequestError(f"{tensor.name[:80]!r} must have its elements in {field}, got {', '.join(given)}")
    elements = getattr(tensor.contents, field)
    if field == "bytes_contents":
        return b"".join([len(element).to_bytes(4, "little") + element for element in elements])
    return _packed(elements, tensor)


def _packed(elements: Sequence[Any], tensor: Any) -> bytes:
    dtype = TYPES[tensor.datatype]
    wide = np.array(elements, dtype=dtype if dtype.kind in "fb" or dtype.itemsize == 8 else np.int64)
    typed = wide.astype(dtype)
    if dtype.kind in "iu" and (typed != wide).any():
        raise RequestError(f"{tensor.name[:80]!r} must hold {tensor.datatype}, got an element beyond it")
    return typed.tobytes()


def _parameter(value: int | str) -> Any:
    return MESSAGES["InferParameter"](**{"string_param" if isinstance(value, str) else "int64_param": value})


def _parameters(parameters: Any) -> dict[str, Any]:
    """By name, as JSON has them."""
    found = {}
    for name, value in parameters.items():
        choice = value.WhichOneof("parameter_choice")
        if choice is None:
            raise RequestError(f"the parameter {name[:80]!r} must have a value, got none")
        found[name] = getattr(value, choice)
    return found
