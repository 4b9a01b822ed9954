"""The Open Inference Protocol v2 in JSON: request bytes to a `Request`, a `Response` to reply bytes, model metadata.

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
from corelane.serve.columns import check_names, column_values
from corelane.serve.request import Inputs, Request, Response
from corelane.serve.values import INTEGER_TYPES, MAX_RANK, NUMBER_TYPES, check_integers, flat, numbers, short

PLATFORM = "onnx_onnxruntime"
MAX_LENGTH = 1 << 31  # elements along one axis; a body cannot hold more
MAX_ID = 1024  # characters of a request's id


class OipCodec:
    """Translates for one model. Every `RequestError` names the tensor at fault."""

    def __init__(self, model: ModelPackage) -> None:
        self._columns = {column.name: column for column in model.pipeline.schema.columns}
        self._inputs = {tensor.name: tensor for tensor in model.signature.inputs}
        self._outputs = {tensor.name: tensor for tensor in model.signature.outputs}
        self._matrix = model.signature.matrix
        self._header = {"model_name": model.name, "model_version": str(model.version)}
        self._model = model

    # --- in -----------------------------------------------------------------------------------------------------------

    def parse(self, body: bytes, deadline_s: float = math.inf) -> Request:
        """The request in `body`. Raises `RequestError` for whatever is not one of this model's."""
        message = _object(body)
        tensors = message.get("inputs")
        if type(tensors) is not list or not tensors:
            raise RequestError(f"inputs must be a list of at least one tensor, got {short(tensors)}")
        inputs, num_rows = self._read(tensors)
        request = Request(inputs, num_rows, len(body), deadline_s)
        if len(message) > 1:
            self._read_options(message, request)
        return request

    def _read(self, tensors: list[Any]) -> tuple[Inputs, int]:
        names = [_name(tensor) for tensor in tensors]
        if self._matrix is not None and names == [self._matrix.name] and names != list(self._columns):
            return self._read_matrix(tensors[0], self._matrix)
        check_names(names, self._columns, "the input")
        columns: dict[str, Any] = {}
        num_rows = 0
        for name, tensor in zip(names, tensors, strict=True):
            shape, elements = self._read_column(self._columns[name], tensor)
            if columns and shape[0] != num_rows:
                raise RequestError(f"the input {name!r} must have {num_rows} rows as the others, got {shape[0]}")
            num_rows = shape[0]
            columns[name] = elements
        if self._matrix is not None:
            return np.column_stack([columns[name] for name in self._columns]), num_rows
        return columns, num_rows

    def _read_matrix(self, tensor: JsonObject, matrix: TensorMeta) -> tuple[Inputs, int]:
        shape = _shape(tensor, matrix)
        if len(shape) != 2 or shape[1] != matrix.shape[1]:
            raise RequestError(f"the shape of {matrix.name!r} must be {list(matrix.shape)}, got {shape}")
        elements = flat(tensor.get("data"), shape, matrix.name)
        _check_number_type(tensor, elements, matrix.name)
        return numbers(elements, repr(matrix.name)).reshape(shape), shape[0]

    def _read_column(self, column: Column, tensor: JsonObject) -> tuple[list[int], Any]:
        meta = self._inputs[column.name]
        shape = _shape(tensor, meta)
        data = tensor.get("data")
        datatype = tensor.get("datatype")
        is_text = column.kind in ("categorical", "date")
        if datatype == "BYTES" or is_text:
            if datatype != "BYTES" or not (is_text or column.kind == "image"):
                raise _wrong_datatype(column.name, meta.datatype, datatype)
            if shape[1:] not in ([], [1]):
                raise RequestError(f"the shape of {column.name!r} must be [-1], got {shape}")
            shape = shape[:1]
            if type(data) is list and data and type(data[0]) is list:
                data = flat(data, [shape[0], 1], repr(column.name))
        elif column.kind == "numeric":
            if shape[1:] not in ([], [1]):
                raise RequestError(f"the shape of {column.name!r} must be [-1], got {shape}")
            data = flat(data, shape, repr(column.name))
            _check_number_type(tensor, data, column.name)
            shape = shape[:1]
        else:
            shape = _fit_image(column, shape) if column.kind == "image" else shape
            if len(shape) != len(meta.shape) or any(
                want not in (-1, got) for want, got in zip(meta.shape, shape, strict=True)
            ):
                raise RequestError(f"the shape of {column.name!r} must be {list(meta.shape)}, got {shape}")
            data = flat(data, shape, repr(column.name))
            if datatype != "BOOL" or column.dtype != "bool":
                _check_number_type(tensor, data, column.name)
        return shape, column_values(column, data, shape)

    def _read_options(self, message: JsonObject, request: Request) -> None:
        request.id = message.get("id")
        if "id" in message and (type(request.id) is not str or len(request.id) > MAX_ID):
            raise RequestError(f"id must be a string of at most {MAX_ID} characters, got {short(request.id)}")
        _check_parameters(message, "the request")
        wanted = message.get("outputs")
        if wanted is None:
            return
        if type(wanted) is not list:
            raise RequestError(f"outputs must be a list of tensors, got {short(wanted)}")
        if wanted:
            names = [_name(output) for output in wanted]
            check_names([*names, *(name for name in self._outputs if name not in names)], self._outputs, "the output")
            request.outputs = tuple(names)

    # --- out ----------------------------------------------------------------------------------------------------------

    def render(self, response: Response) -> bytes:
        """The reply to `response.request`: its outputs flat and row-major, its id if it had one."""
        request = response.request
        message: JsonObject = {**self._header, "outputs": []}
        if request.id is not None:
            message["id"] = request.id
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
        return orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)

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


def _name(tensor: Any) -> str:
    if type(tensor) is not dict or type(tensor.get("name")) is not str:
        raise RequestError(f"a tensor must be an object with a name, got {short(tensor)}")
    if "parameters" in tensor:
        _check_parameters(tensor, repr(tensor["name"][:80]))
    return tensor["name"]  # type: ignore[no-any-return]


def _check_parameters(holder: JsonObject, what: str) -> None:
    """Unknown parameters are ignored, as the protocol has it; values of a type it does not know are refused."""
    parameters = holder.get("parameters")
    if parameters is None:
        return
    if type(parameters) is not dict or not all(type(one) in (str, int, float, bool) for one in parameters.values()):
        raise RequestError(
            f"the parameters of {what} must be strings, numbers or booleans by name, got {short(parameters)}"
        )
    if "binary_data_size" in parameters:
        raise RequestError(f"the data of {what} must be JSON, got binary data, which this server does not read")


def _shape(tensor: JsonObject, meta: TensorMeta) -> list[int]:
    shape = tensor.get("shape")
    if type(shape) is list and 0 < len(shape) <= MAX_RANK:
        for length in shape:
            if type(length) is not int or not 0 < length < MAX_LENGTH:
                break
        else:
            return shape
    raise RequestError(
        f"the shape of {meta.name!r} must be {list(meta.shape)} with at least one row, got {short(shape)}"
    )


def _check_number_type(tensor: JsonObject, elements: list[Any], name: str) -> None:
    datatype = tensor.get("datatype")
    if datatype == "FP32" or datatype == "FP64":  # noqa: PLR1714 - a set would hash what may be unhashable
        return
    if type(datatype) is not str or datatype not in NUMBER_TYPES:
        raise _wrong_datatype(name, "a number such as FP64", datatype)
    check_integers(elements, repr(name), INTEGER_TYPES[datatype])


def _wrong_datatype(name: str, wanted: str, got: Any) -> RequestError:
    return RequestError(f"the datatype of {name!r} must be {wanted}, got {short(got)}")


def _fit_image(column: Column, shape: list[int]) -> list[int]:
    return [*shape, 1] if len(shape) == 3 and column.shape[2] == 1 else shape


def _describe(tensor: TensorMeta) -> JsonObject:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
