"""A server of the Open Inference Protocol v2 that is known by its address alone, and legal requests for one model.

Nothing of Corelane is used to talk to it: tensors are packed here, from the text of the protocol, so that a mistake of
ours cannot hide behind itself.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.serve.live import Reply, ask

BINARY = "binary_tensor_data"
JSON_LENGTH = "Inference-Header-Content-Length"
SIZE = "binary_data_size"
NUMPY = {
    "BOOL": "?",
    **{f"{sign}INT{bits}": f"<{kind}{bits // 8}" for sign, kind in (("", "i"), ("U", "u")) for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}
DATATYPES = {*NUMPY, "BYTES", "BF16"}
"""What `inference_rest.md` lists; BF16 is in its prose."""


@dataclass
class Peer:
    """A server by its URL, and by `host:port` for gRPC, with the model that is asked; `given` is a legal request."""

    url: str
    model: str
    grpc: str | None = None
    given: Path | None = None
    timeout_s: float = 30.0

    @property
    def base(self) -> str:
        return f"/v2/models/{self.model}"

    def connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(parts.hostname or "", parts.port, timeout=self.timeout_s)

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
        """One request on a connection of its own; `body` is sent as JSON unless it is bytes."""
        connection = self.connect()
        try:
            return ask(connection, method, urlsplit(self.url).path.rstrip("/") + path, body, headers)
        finally:
            connection.close()

    def infer(self, body: Any, headers: Mapping[str, str] | None = None) -> Reply:
        return self.ask("POST", f"{self.base}/infer", body, headers)

    @cached_property
    def metadata(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", self.base).json
        return found

    @cached_property
    def extensions(self) -> list[str]:
        found: list[str] = self.ask("GET", "/v2").json["extensions"]
        return found

    def needs(self, extension: str) -> None:
        """Skip where the server does not declare `extension`."""
        if extension not in self.extensions:
            pytest.skip(f"needs the extension {extension}, which {self.url} does not declare")

    # --- legal requests -----------------------------------------------------------------------------------------------

    @cached_property
    def request(self) -> dict[str, Any]:
        """The request that was given, or one made of the metadata: one row, and 1 wherever a length is free."""
        if self.given is not None:
            read: dict[str, Any] = json.loads(self.given.read_text())
            return {"inputs": read["inputs"]}
        return {"inputs": [_made_up(meta) for meta in self.metadata["inputs"]]}

    @property
    def first(self) -> dict[str, Any]:
        tensor: dict[str, Any] = self.request["inputs"][0]
        return tensor

    def with_first(self, **changes: Any) -> dict[str, Any]:
        """The request with fields of its first input changed; None leaves one out."""
        first, *others = self.request["inputs"]
        changed = {name: value for name, value in {**first, **changes}.items() if value is not None}
        return {"inputs": [changed, *others]}

    def packed(self, **options: Any) -> tuple[bytes, dict[str, str]]:
        """The request with every input as bytes behind the JSON: body and headers."""
        return joined({"inputs": [described(tensor) for tensor in self.request["inputs"]], **options}, self.raw())

    def raw(self) -> list[bytes]:
        """Each input's bytes."""
        return [content_of(tensor) for tensor in self.request["inputs"]]


def described(tensor: Mapping[str, Any]) -> dict[str, Any]:
    """A tensor whose elements are behind the JSON."""
    without = {name: value for name, value in tensor.items() if name != "data"}
    return {**without, "parameters": {SIZE: len(content_of(tensor))}}


def joined(message: Mapping[str, Any], contents: list[bytes]) -> tuple[bytes, dict[str, str]]:
    """JSON with bytes behind it, and the headers that say so."""
    head = json.dumps(message).encode()
    return head + b"".join(contents), {JSON_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}


def content_of(tensor: Mapping[str, Any]) -> bytes:
    """The elements of a tensor in JSON as the binary extension has them."""
    elements = flat(tensor["data"])
    if tensor["datatype"] == "BYTES":
        texts = [str(element).encode() for element in elements]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return np.array(elements, NUMPY[tensor["datatype"]]).tobytes()


def flat(data: Any) -> list[Any]:
    """Nested lists as one."""
    return [element for one in data for element in flat(one)] if isinstance(data, list) else [data]


def nested(elements: list[Any], shape: list[int]) -> Any:
    """One list as nested ones."""
    if len(shape) == 1:
        return elements
    size = len(elements) // shape[0]
    return [nested(elements[index * size : (index + 1) * size], shape[1:]) for index in range(shape[0])]


def outputs_of(reply: Reply) -> dict[str, list[Any]]:
    """The outputs of a reply in JSON, bytes, or both: elements in row-major order, by name."""
    length = int(reply.headers.get(JSON_LENGTH.lower(), len(reply.body)))
    message, place = json.loads(reply.body[:length]), length
    found = {}
    for output in message["outputs"]:
        size = output.get("parameters", {}).get(SIZE)
        if size is None:
            found[output["name"]] = flat(output["data"])
            continue
        found[output["name"]] = elements_of(reply.body[place : place + size], output["datatype"])
        place += size
    assert place == len(reply.body), "the tensors' bytes must be all that is behind the JSON"
    return found


def elements_of(content: bytes, datatype: str) -> list[Any]:
    """What `content_of` packs, taken out again; texts as such."""
    if datatype != "BYTES":
        return list(np.frombuffer(content, NUMPY[datatype]).tolist())
    found = []
    while content:
        size = int.from_bytes(content[:4], "little")
        found.append(content[4 : 4 + size].decode())
        assert len(content) >= 4 + size, "an element's length must not lead out of its tensor"
        content = content[4 + size :]
    return found


def assert_alike(got: Mapping[str, list[Any]], expected: Mapping[str, list[Any]]) -> None:
    """Assert that two answers have the same outputs, numbers to what single precision tells."""
    assert got.keys() == expected.keys()
    for name, elements in expected.items():
        if elements and isinstance(elements[0], str | bool):
            assert got[name] == elements
        else:
            np.testing.assert_allclose(got[name], elements, rtol=1e-4, atol=1e-6)


def assert_refused(reply: Reply) -> str:
    """Assert that a request was refused as the protocol says, and return why."""
    assert 400 <= reply.status < 500, f"must be refused as the caller's fault, got {reply.status}: {reply.body[:200]!r}"
    message = reply.json
    assert isinstance(message, dict), f"an error must be a JSON object, got {message!r}"
    reason = message.get("error")
    assert isinstance(reason, str), f'an error must be {{"error": string}}, got {message!r}'
    assert reason
    return reason


def _made_up(meta: Mapping[str, Any]) -> dict[str, Any]:
    shape = [1 if length < 0 else length for length in meta["shape"]]
    elements = [_element(meta["datatype"], index) for index in range(int(np.prod(shape)))]
    return {"name": meta["name"], "datatype": meta["datatype"], "shape": shape, "data": elements}


def _element(datatype: str, index: int) -> Any:
    if datatype == "BYTES":
        return "a"
    if datatype == "BOOL":
        return index % 2 == 0
    return index % 3 + 1 if "INT" in datatype else (index % 5) * 0.25 + 0.25
