"""The Open Inference Protocol v2 over HTTP: request bytes to a `Request`, a `Response` to reply bytes, model metadata.

Tensors are the raw columns of the schema by name; a model whose columns are all numeric also takes them as one matrix.
The specification is `inference_rest.md` of kserve/open-inference-protocol; docs/serve.md decides what it leaves open.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson

from corelane.core.errors import RequestError
from corelane.core.types import JsonObject
from corelane.data.schema import Column
from corelane.model.package import ModelPackage
from corelane.model.signature import TensorMeta
from corelane.serve.again import Forms
from corelane.serve.columns import check_names, column_values
from corelane.serve.extensions import PLATFORM
from corelane.serve.request import BARE, Envelope, Inputs, Request, Response
from corelane.serve.tensor_fields import (
    binary_size,
    check_number_type,
    check_parameters,
    check_shape,
    name_of,
    number_type,
    shape_of,
    timeout_s,
    wrong_datatype,
)
from corelane.serve.values import flat, numbers, short
from corelane.web.exchange import JSON, Headers
from corelane.web.tensors import (
    ALL_WANTED,
    HEADER,
    NOTHING_BEHIND,
    OCTETS,
    SIZE,
    TIMEOUT,
    TYPES,
    WANTED,
    BinaryParts,
    read_bytes,
    read_numbers,
    split_body,
    write_array,
)

MAX_ID = 1024  # characters of a request's id
RECEIPT = "receipt"  # the parameter that asks for times with the answer


class OipCodec:
    """Translates for one model. Every `RequestError` names the tensor at fault."""

    def __init__(self, model: ModelPackage) -> None:
        self._columns = {column.name: column for column in model.pipeline.schema.columns}
        self._inputs = {tensor.name: tensor for tensor in model.signature.inputs}
        self._outputs = {tensor.name: tensor for tensor in model.signature.outputs}
        self._matrix = model.signature.matrix
        self._is_matrix_known = self._matrix is not None and list(self._columns) != [self._matrix.name]
        self.header = {"model_name": model.name, "model_version": str(model.version)}
        self._model = model
        self._forms = Forms()

    # --- in -----------------------------------------------------------------------------------------------------------

    def parse(self, body: bytes, envelope: Envelope = BARE) -> Request:
        """The request in `body`. Raises `RequestError` for whatever is not one of this model's."""
        if envelope.json_length is None:
            return self.parse_message(_object(body), NOTHING_BEHIND, envelope, len(body))
        if envelope.json_length == "0":
            return self._read_raw(body, envelope)
        text, behind = split_body(body, envelope.json_length)
        known = self._forms.request(text, behind, envelope)
        if known is not None:
            return known
        request = self.parse_message(_object(text), BinaryParts(behind), envelope, len(body))
        self._forms.remember(text, behind, request)
        return request

    def parse_message(self, message: JsonObject, parts: BinaryParts, envelope: Envelope, num_bytes: int) -> Request:
        """The request in a JSON object, and the bytes of its tensors behind it; `num_bytes` is its size in all."""
        tensors = message.get("inputs")
        if type(tensors) is not list or not tensors:
            raise RequestError(f"inputs must be a list of at least one tensor, got {short(tensors)}")
        inputs, num_rows = self._read(tensors, parts)
        parts.check_end()
        request = Request(inputs, num_rows, num_bytes, envelope.deadline_s)
        request.wants_receipt = envelope.wants_receipt
        if len(message) > 1:
            self._read_options(message, request, envelope)
        return request

    def _read_raw(self, body: bytes, envelope: Envelope) -> Request:
        """A body that is the one input's bytes and nothing else: as many rows as it has, or one text or file."""
        meta = self._matrix or (self._model.signature.inputs[0] if len(self._inputs) == 1 else None)
        if meta is None or -1 in meta.shape[1:]:
            raise RequestError(
                f"a body without JSON must be for a model of one input whose rows have one size, "
                f"got one for {self._model.name}"
            )
        if meta.datatype == "BYTES":
            shape, body = [1], len(body).to_bytes(4, "little") + body
        else:
            row_bytes = math.prod(meta.shape[1:]) * TYPES[meta.datatype].itemsize
            shape = [len(body) // row_bytes, *meta.shape[1:]]
            if not shape[0] or len(body) % row_bytes:
                raise RequestError(f"a body without JSON must be rows of {row_bytes} bytes, got {len(body)} bytes")
        tensor = {"name": meta.name, "datatype": meta.datatype, "shape": shape, "parameters": {SIZE: len(body)}}
        inputs, num_rows = self._read([tensor], BinaryParts(memoryview(body)))
        request = Request(inputs, num_rows, len(body), envelope.deadline_s, in_bytes=frozenset(self._outputs))
        request.wants_receipt = envelope.wants_receipt
        return request

    def _read(self, tensors: list[Any], parts: BinaryParts) -> tuple[Inputs, int]:
        names = [name_of(tensor) for tensor in tensors]
        if self._matrix is not None and self._is_matrix_known and names == [self._matrix.name]:
            return self._read_matrix(tensors[0], self._matrix, parts)
        check_names(names, self._columns, "the input")
        columns: dict[str, Any] = {}
        num_rows = 0
        for name, tensor in zip(names, tensors, strict=True):
            shape, elements = self._read_column(self._columns[name], tensor, parts)
            if columns and shape[0] != num_rows:
                raise RequestError(f"the input {name!r} must have {num_rows} rows as the others, got {shape[0]}")
            num_rows = shape[0]
            columns[name] = elements
        if self._matrix is not None:
            return np.column_stack([columns[name] for name in self._columns]), num_rows
        return columns, num_rows

    def _read_matrix(self, tensor: JsonObject, matrix: TensorMeta, parts: BinaryParts) -> tuple[Inputs, int]:
        shape = shape_of(tensor, matrix)
        if len(shape) != 2 or shape[1] != matrix.shape[1]:
            raise RequestError(f"the shape of {matrix.name!r} must be {list(matrix.shape)}, got {shape}")
        size = binary_size(tensor)
        if size is not None:
            return read_numbers(
                parts.take(size, matrix.name), number_type(tensor, matrix.name), shape, matrix.name
            ), shape[0]
        elements = flat(tensor.get("data"), shape, matrix.name)
        check_number_type(tensor, elements, matrix.name)
        return numbers(elements, repr(matrix.name)).reshape(shape), shape[0]

    def _read_column(self, column: Column, tensor: JsonObject, parts: BinaryParts) -> tuple[list[int], Any]:
        meta = self._inputs[column.name]
        shape = shape_of(tensor, meta)
        size = binary_size(tensor)
        if size is not None:
            return self._read_binary(column, tensor, shape, parts.take(size, column.name))
        data = tensor.get("data")
        datatype = tensor.get("datatype")
        is_text = column.kind in ("categorical", "date")
        if datatype == "BYTES" or is_text:
            if datatype != "BYTES" or not (is_text or column.kind == "image"):
                raise wrong_datatype(column.name, meta.datatype, datatype)
            if shape[1:] not in ([], [1]):
                raise RequestError(f"the shape of {column.name!r} must be [-1], got {shape}")
            shape = shape[:1]
            if type(data) is list and data and type(data[0]) is list:
                data = flat(data, [shape[0], 1], repr(column.name))
        elif column.kind == "numeric":
            if shape[1:] not in ([], [1]):
                raise RequestError(f"the shape of {column.name!r} must be [-1], got {shape}")
            data = flat(data, shape, repr(column.name))
            check_number_type(tensor, data, column.name)
            shape = shape[:1]
        else:
            shape = _fit_image(column, shape) if column.kind == "image" else shape
            check_shape(column.name, meta, shape)
            data = flat(data, shape, repr(column.name))
            if datatype != "BOOL" or column.dtype != "bool":
                check_number_type(tensor, data, column.name)
        return shape, column_values(column, data, shape)

    def _read_binary(
        self, column: Column, tensor: JsonObject, shape: list[int], content: memoryview
    ) -> tuple[list[int], Any]:
        """The same of a tensor whose elements are bytes."""
        meta, datatype = self._inputs[column.name], tensor.get("datatype")
        is_text = column.kind in ("categorical", "date")
        if datatype == "BYTES" or is_text:
            if datatype != "BYTES" or not (is_text or column.kind == "image"):
                raise wrong_datatype(column.name, meta.datatype, datatype)
            if shape[1:] not in ([], [1]):
                raise RequestError(f"the shape of {column.name!r} must be [-1], got {shape}")
            elements = read_bytes(content, shape[0], column.name)
            return shape[:1], [_text(element, column.name) for element in elements] if is_text else elements
        if column.kind == "numeric":
            if shape[1:] not in ([], [1]):
                raise RequestError(f"the shape of {column.name!r} must be [-1], got {shape}")
            shape = shape[:1]
        else:
            shape = _fit_image(column, shape) if column.kind == "image" else shape
            check_shape(column.name, meta, shape)
        kind = "BOOL" if datatype == "BOOL" and column.dtype == "bool" else number_type(tensor, column.name)
        values = read_numbers(content, kind, shape, column.name)
        return shape, values.astype(np.float64) if column.kind == "numeric" else values

    def _read_options(self, message: JsonObject, request: Request, envelope: Envelope) -> None:
        request.id = message.get("id")
        if "id" in message and (type(request.id) is not str or len(request.id) > MAX_ID):
            raise RequestError(f"id must be a string of at most {MAX_ID} characters, got {short(request.id)}")
        check_parameters(message, "the request")
        parameters = message.get("parameters") or {}
        if TIMEOUT in parameters:
            request.deadline_s = envelope.within(timeout_s(parameters[TIMEOUT]))
        if parameters.get(RECEIPT) is True:
            request.wants_receipt = True
        is_all = parameters.get(ALL_WANTED) is True
        wanted = message.get("outputs")
        if not wanted and is_all:
            request.in_bytes = frozenset(self._outputs)
        if wanted is None:
            return
        if type(wanted) is not list:
            raise RequestError(f"outputs must be a list of tensors, got {short(wanted)}")
        if wanted:
            names = [name_of(output) for output in wanted]
            check_names([*names, *(name for name in self._outputs if name not in names)], self._outputs, "the output")
            request.outputs = tuple(names)
            flags = [(output.get("parameters") or {}).get(WANTED, is_all) for output in wanted]
            request.in_bytes = frozenset(name for name, flag in zip(names, flags, strict=True) if flag is True)

    # --- out ----------------------------------------------------------------------------------------------------------

    def render(self, response: Response) -> tuple[bytes, Headers]:
        """The reply to `response.request`: its outputs flat and row-major, its id if it had one."""
        request = response.request
        if request.in_bytes:
            return self._render_bytes(response)
        message: JsonObject = {**self.header, "outputs": []}
        if request.id is not None:
            message["id"] = request.id
        if response.receipt is not None:
            message["parameters"] = response.receipt.parameters()
        outputs = message["outputs"]
        for name in request.outputs or self._outputs:
            array = response.outputs[name]
            outputs.append(
                {
                    "name": name,
                    "datatype": self._outputs[name].datatype,
                    "shape": array.shape,
                    "data": array.tolist() if array.dtype.kind == "O" else array.ravel(),
                }
            )
        return orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY), JSON

    def output_types(self, request: Request) -> list[tuple[str, str]]:
        """The outputs that `request` wants, in order, each with its datatype."""
        return [(name, self._outputs[name].datatype) for name in request.outputs or self._outputs]

    def _render_bytes(self, response: Response) -> tuple[bytes, Headers]:
        """The same with some outputs behind the JSON."""
        request = response.request
        message: JsonObject = {**self.header, "outputs": []}
        if request.id is not None:
            message["id"] = request.id
        if response.receipt is not None:
            message["parameters"] = response.receipt.parameters()
        behind: list[bytes] = []
        for name in request.outputs or self._outputs:
            array = response.outputs[name]
            output: JsonObject = {"name": name, "datatype": self._outputs[name].datatype, "shape": array.shape}
            if name in request.in_bytes:
                behind.append(write_array(array))
                output["parameters"] = {SIZE: len(behind[-1])}
            else:
                output["data"] = array.tolist() if array.dtype.kind == "O" else array.ravel()
            message["outputs"].append(output)
        head = orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)
        return b"".join([head, *behind]), [*OCTETS, (HEADER, str(len(head)))]

    def metadata(self) -> JsonObject:
        """What `GET /v2/models/<name>` answers."""
        model = self._model
        inputs = [model.signature.matrix] if model.signature.matrix is not None else list(model.signature.inputs)
        return {
            "name": model.name,
            "versions": [str(model.version)],
            "platform": PLATFORM,
            "inputs": [_describe(tensor) for tensor in inputs],
            "outputs": [_describe(tensor) for tensor in model.signature.outputs],
        }


def _object(body: bytes) -> JsonObject:
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body must be JSON in UTF-8, got {error}") from error
    if type(message) is not dict:
        raise RequestError(f"the body must be a JSON object, got {short(message)}")
    return message


def _text(element: bytes, name: str) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"{name!r} must hold texts in UTF-8, got other bytes") from error


def _fit_image(column: Column, shape: list[int]) -> list[int]:
    return [*shape, 1] if len(shape) == 3 and column.shape[2] == 1 else shape


def _describe(tensor: TensorMeta) -> JsonObject:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
