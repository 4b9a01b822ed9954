"""Requests to bytes and replies to answers: what the two clients share. No sockets here.

Tensors travel as bytes (the binary extension of the Open Inference Protocol); records as JSON. A reply that is no
success becomes the error that the server meant.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson

from corelane.core.errors import (
    CorelaneError,
    DeadlineError,
    ForbiddenError,
    HeadTooLargeError,
    MethodNotAllowedError,
    NotFoundError,
    NotReadyError,
    OverloadedError,
    PayloadTooLargeError,
    RequestError,
    ServerFailedError,
    SlowBodyError,
    UnauthorizedError,
    UnsupportedMediaError,
)
from corelane.core.types import Array, JsonObject
from corelane.web.tensors import (
    ALL_WANTED,
    HEADER,
    SIZE,
    TIMEOUT_HEADER,
    TYPES,
    BinaryParts,
    read_bytes,
    read_numbers,
    split_body,
    write_array,
)

MAX_TIMEOUT_S = 3600.0  # that a server may be told
_NAMES = {dtype.newbyteorder("=").str: name for name, dtype in TYPES.items()}
_ERRORS: Mapping[int, type[CorelaneError]] = {
    400: RequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    405: MethodNotAllowedError,
    408: SlowBodyError,
    413: PayloadTooLargeError,
    415: UnsupportedMediaError,
    431: HeadTooLargeError,
    503: NotReadyError,
    504: DeadlineError,
}


def bearer(token: str) -> tuple[str, str]:
    """The header that brings `token`."""
    return "Authorization", f"Bearer {token}"


@dataclass(frozen=True, slots=True)
class Call:
    """One request: its path, headers and body (None: a GET)."""

    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None

    def by(self, token: str) -> Call:
        """The same, from whoever has `token`."""
        return Call(self.path, (*self.headers, bearer(token)), self.body)

    def within(self, timeout_s: float) -> Call:
        """The same, telling the server after how long the answer is of no more use."""
        milliseconds = str(max(1, math.floor(min(timeout_s, MAX_TIMEOUT_S) * 1000)))
        return Call(self.path, (*self.headers, (TIMEOUT_HEADER, milliseconds)), self.body)


def infer_call(
    model: str, inputs: Mapping[str, Any], *, outputs: Sequence[str] | None = None, version: int | None = None
) -> Call:
    """Ask `model` for `outputs` (None: all) of tensors by name: arrays, or lists of texts [n].

    Raises `RequestError` for an array of a type that the protocol does not have.
    """
    described, parts = [], []
    for name, given in inputs.items():
        array, datatype = _tensor(name, given)
        parts.append(write_array(array))
        size = {SIZE: len(parts[-1])}
        described.append({"name": name, "datatype": datatype, "shape": array.shape, "parameters": size})
    message: dict[str, Any] = {"inputs": described, "parameters": {ALL_WANTED: True}}
    if outputs is not None:
        message["outputs"] = [{"name": name} for name in outputs]
    head = orjson.dumps(message)
    headers = (("content-type", "application/octet-stream"), (HEADER, str(len(head))))
    return Call(f"{model_path(model, version)}/infer", headers, b"".join([head, *parts]))


def infer_answer(body: bytes, headers: Mapping[str, str]) -> dict[str, Array]:
    """The outputs by name in a reply to `infer_call`; texts as object arrays. Raises `ServerFailedError`."""
    try:
        head, behind = split_body(body, headers.get(HEADER))
        parts = BinaryParts(behind)
        return {output["name"]: _output(output, parts) for output in orjson.loads(head)["outputs"]}
    except (RequestError, AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ServerFailedError("the reply must be tensors of the protocol, got another", detail=str(error)) from error


def predict_call(model: str, rows: Sequence[Mapping[str, Any]]) -> Call:
    """Ask `model` for the predictions of `rows`, values by column name."""
    try:
        body = orjson.dumps({"rows": list(rows)}, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise RequestError(f"rows must hold numbers, texts, lists and null, got another: {error}") from error
    return Call(f"/v1/models/{quote(model, safe='')}:predict", (("content-type", "application/json"),), body)


def predict_answer(body: bytes) -> list[dict[str, Any]]:
    """The predictions in a reply to `predict_call`, one a row. Raises `ServerFailedError`."""
    try:
        predictions = orjson.loads(body)["predictions"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ServerFailedError("the reply must be predictions, got another", detail=str(error)) from error
    if type(predictions) is not list:
        raise ServerFailedError("the reply must be a list of predictions, got another")
    return predictions


def metadata_answer(body: bytes) -> JsonObject:
    """The metadata of a model in a reply. Raises `ServerFailedError`."""
    try:
        described: JsonObject = orjson.loads(body)
        if all("name" in one and "shape" in one for one in (*described["inputs"], *described["outputs"])):
            return described
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ServerFailedError("the reply must be metadata of a model, got another", detail=str(error)) from error
    raise ServerFailedError("the reply must be metadata of a model, got another")


def model_path(model: str, version: int | None) -> str:
    """The path of a model, or of one of its versions."""
    path = f"/v2/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{version}"


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> CorelaneError:
    """What the server said with a reply that is no success."""
    try:
        message = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        message = f"the server answered {status}: {body[:200].decode(errors='replace')}"
    after = headers.get("retry-after", "")
    if status == 429 or (status == 503 and after):  # the second of a server that was told so, for Triton's clients
        return OverloadedError(message, retry_after_s=float(after) if after.isdecimal() else 1.0)
    return _ERRORS.get(status, ServerFailedError)(message)


def _tensor(name: str, given: Any) -> tuple[Array, str]:
    array = np.asarray(given)
    if array.ndim and (array.dtype.kind in "US" or array.dtype == object):
        return array.astype(object), "BYTES"
    datatype = _NAMES.get(array.dtype.newbyteorder("=").str)
    if datatype is None or array.ndim == 0:
        raise RequestError(f"{name!r} must be an array of numbers, booleans or texts with rows, got {array.dtype}")
    return array, datatype


def _output(output: Mapping[str, Any], parts: BinaryParts) -> Array:
    shape, datatype, name = output["shape"], output["datatype"], output["name"]
    size = output.get("parameters", {}).get(SIZE)
    if size is None:
        array: Array = np.array(output["data"], dtype=TYPES.get(datatype, np.dtype(object)))
        return array.reshape(shape)
    content = parts.take(size, name)
    if datatype != "BYTES":
        return read_numbers(content, datatype, shape, name)
    texts = [element.decode() for element in read_bytes(content, math.prod(shape), name)]
    return np.array(texts, dtype=object).reshape(shape)
