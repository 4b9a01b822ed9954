"""Whatever bytes arrive: each codec of the wire makes a request of them or refuses them as the caller's fault.

What is let through is run and written too, since a value that only the network or the reply stumbles over is a 500 all
the same. `NASTY` holds what was or could have been a fault of some server.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from corelane.core.errors import PayloadTooLargeError, RequestError
from corelane.serve.config import ServeConfig
from corelane.serve.grpc_codec import GrpcCodec
from corelane.serve.messages import HEALTH_MESSAGES, MESSAGES
from corelane.serve.oip import OipCodec
from corelane.serve.records import RecordCodec
from corelane.serve.request import Envelope, Request, Response
from corelane.serve.server import ModelServer
from corelane.web.body import unpacked
from corelane.web.status import failure_of
from corelane.web.tensors import TYPES, BinaryParts, read_bytes, read_numbers, split_body
from tests.serve.packages import image_package, labels_package, mixed_package, numeric_package, png
from tests.serve.test_oip import JSON_VALUES

MODELS = ("m", "mixed", "labels", "picture", "photo")
RUNS = settings(max_examples=150, deadline=None)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ModelServer]]:
    home = tmp_path_factory.mktemp("packages")
    photo = image_package(home, "photo", shape=(8, 8, 3), encoded=True)
    paths = [numeric_package(home), mixed_package(home), labels_package(home), image_package(home), photo]
    opened = {name: ModelServer(path, ServeConfig()) for name, path in zip(MODELS, paths, strict=True)}
    yield opened
    for server in opened.values():
        server.close()


def answered(server: ModelServer, codec: Any, request: Request) -> None:
    """Run `request` and write its answer; whatever is refused on the way must be the caller's fault."""
    assert isinstance(request, Request)
    result = server._compute_one(request)
    if isinstance(result, Response):
        codec.render(result)
    else:
        assert failure_of(result).status < 500, repr(result)


# --- strategies -------------------------------------------------------------------------------------------------------

NAMES = ("features", "x0", "x1", "x2", "x3", "age", "weight", "colour", "image", "label", "value", "probabilities")
NUMBERS = st.one_of(
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -1, 1, 255, 256, 2**31, 2**53 + 1, 2**63, 2**64, 1e308, -1e308, 5e-324, True, None]),
)
CELLS = st.one_of(
    NUMBERS, st.text(max_size=5), st.sampled_from(["red", "1", "\ud800", "\0"]), st.lists(NUMBERS, max_size=3)
)
DATATYPE_NAMES = st.sampled_from([*TYPES, "BYTES", "BF16", "FP8", "", 5, None])
SHAPES = st.one_of(
    st.lists(st.integers(0, 5), max_size=5),
    st.lists(st.sampled_from([-1, 1, 2, 4, 8, 2**31 - 1, 2**32, 2**64, 1.0, True, "1", None]), max_size=4),
    st.sampled_from([[1], [1, 1], [1, 4], [2, 4], [1, 4, 5], [1, 4, 5, 1], [2, 4, 5, 1]]),
)
PARAMETERS = st.dictionaries(
    st.sampled_from(["binary_data_size", "binary_data", "binary_data_output", "timeout", "receipt", "x"]),
    st.one_of(st.integers(-1, 70), st.sampled_from([2**64, 1.5, "8", True, None, [], {}])),
    max_size=3,
)
TENSORS = st.fixed_dictionaries(
    {"name": st.sampled_from(NAMES), "shape": SHAPES, "datatype": DATATYPE_NAMES},
    optional={"data": st.one_of(st.lists(CELLS, max_size=8), JSON_VALUES), "parameters": PARAMETERS},
)
MESSAGE = st.fixed_dictionaries(
    {"inputs": st.lists(st.one_of(TENSORS, JSON_VALUES), max_size=4)},
    optional={
        "id": st.one_of(st.text(max_size=3), JSON_VALUES),
        "parameters": st.one_of(PARAMETERS, JSON_VALUES),
        "outputs": st.lists(
            st.one_of(
                st.fixed_dictionaries({"name": st.sampled_from(NAMES)}, optional={"parameters": PARAMETERS}),
                JSON_VALUES,
            ),
            max_size=3,
        ),
    },
)
LENGTHS = st.one_of(st.none(), st.just("exact"), st.sampled_from(["0", "-1", "9" * 13, "1e2", "٣", ""]))


# --- HTTP: JSON, bytes, records ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@RUNS
@given(message=MESSAGE, behind=st.binary(max_size=80), length=LENGTHS)
def test_tensors_over_http(
    servers: dict[str, ModelServer], model: str, message: Any, behind: bytes, length: Any
) -> None:
    """Messages that look like the protocol's, with anything in their fields and behind them."""
    server = servers[model]
    codec = OipCodec(server.model)
    head = json.dumps(message).encode()
    with suppress(RequestError):
        request = codec.parse(head + behind, Envelope(json_length=str(len(head)) if length == "exact" else length))
        answered(server, codec, request)


@pytest.mark.parametrize("model", MODELS)
@RUNS
@given(data=st.data())
def test_inputs_that_fit_but_for_their_values(servers: dict[str, ModelServer], model: str, data: st.DataObject) -> None:
    """The model's own inputs with shapes that are right more often than not, and hostile elements."""
    server = servers[model]
    codec = OipCodec(server.model)
    num_rows = data.draw(st.integers(1, 3))
    inputs, behind = [], b""
    for meta in server.model.signature.inputs:
        shape = [num_rows, *(data.draw(st.sampled_from([1, 2, 4])) if n < 0 else n for n in meta.shape[1:])]
        count = int(np.prod(shape))
        tensor: dict[str, Any] = {"name": meta.name, "datatype": meta.datatype, "shape": shape}
        tensor["datatype"] = data.draw(st.one_of(st.just(meta.datatype), DATATYPE_NAMES))
        if data.draw(st.booleans()):
            tensor["data"] = data.draw(st.lists(CELLS, min_size=count, max_size=count)) if count < 30 else [1] * count
        else:
            size = count * data.draw(st.sampled_from([1, 2, 4, 8]))
            content = data.draw(st.one_of(st.binary(min_size=size, max_size=size), st.just(b"\xff" * size)))
            tensor["parameters"] = {"binary_data_size": size}
            behind += content
        inputs.append(tensor)
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": data.draw(st.booleans())}}).encode()
    with suppress(RequestError):
        answered(server, codec, codec.parse(head + behind, Envelope(json_length=str(len(head)))))


@pytest.mark.parametrize("model", MODELS)
@RUNS
@given(rows=st.lists(st.dictionaries(st.sampled_from(NAMES), CELLS), min_size=1, max_size=3), whole=st.booleans())
def test_records(servers: dict[str, ModelServer], model: str, rows: list[dict[str, Any]], whole: bool) -> None:
    """Rows with the model's columns, or some, and anything in them."""
    server = servers[model]
    codec = RecordCodec(server)
    if whole:
        names = server.model.pipeline.schema.names
        rows = [{name: row.get(name, next(iter(row.values()), 1)) for name in names} for row in rows]
    with suppress(RequestError):
        answered(server, codec, codec.parse(json.dumps({"rows": rows}).encode()))


@pytest.mark.parametrize("model", MODELS)
@RUNS
@given(body=st.binary(max_size=300), length=st.one_of(LENGTHS, st.integers(0, 300).map(str)))
def test_bytes_that_are_anything(servers: dict[str, ModelServer], model: str, body: bytes, length: str | None) -> None:
    """As tensors in JSON, behind it, or bare, and as records."""
    server = servers[model]
    for codec in (OipCodec(server.model), RecordCodec(server)):
        with suppress(RequestError):
            answered(server, codec, codec.parse(body, Envelope(json_length=length)))


# --- gRPC -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@RUNS
@given(data=st.data())
def test_tensors_over_grpc(servers: dict[str, ModelServer], model: str, data: st.DataObject) -> None:
    """Every field of a message with anything that its type can hold."""
    server = servers[model]
    codec = GrpcCodec(OipCodec(server.model))
    message = MESSAGES["ModelInferRequest"](
        model_name=model, id=data.draw(st.text(st.characters(codec="utf-8"), max_size=3))
    )
    names = [meta.name for meta in server.model.signature.inputs]
    for name in data.draw(
        st.one_of(st.just(names), st.just(["features"]), st.lists(st.sampled_from(NAMES), max_size=3))
    ):
        shape = data.draw(
            st.one_of(st.just([1]), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3), st.just([1, 4]))
        )
        kind = str(data.draw(DATATYPE_NAMES))
        tensor = message.inputs.add(name=name, datatype=kind, shape=shape)
        fill(tensor.contents, data)
    message.raw_input_contents.extend(data.draw(st.lists(st.binary(max_size=40), max_size=3)))
    with suppress(RequestError):
        answered(server, codec, codec.parse(message, Envelope()))


def fill(contents: Any, data: st.DataObject) -> None:
    """Elements in none, one or two of the fields of `contents`."""
    kinds = {
        "bool_contents": st.booleans(),
        "int_contents": st.integers(-(2**31), 2**31 - 1),
        "int64_contents": st.integers(-(2**63), 2**63 - 1),
        "uint_contents": st.integers(0, 2**32 - 1),
        "uint64_contents": st.integers(0, 2**64 - 1),
        "fp32_contents": st.floats(width=32),
        "fp64_contents": st.floats(),
        "bytes_contents": st.binary(max_size=8),
    }
    for name in data.draw(st.lists(st.sampled_from(sorted(kinds)), max_size=2, unique=True)):
        getattr(contents, name).extend(data.draw(st.lists(kinds[name], max_size=4)))


@RUNS
@given(content=st.binary(max_size=200))
def test_bytes_that_may_be_messages(servers: dict[str, ModelServer], content: bytes) -> None:
    """They are read, or refused by the library; what is read is answered or refused by us."""
    for kind in (*MESSAGES.values(), *HEALTH_MESSAGES.values()):
        with suppress(DecodeError):
            kind.FromString(content)
    codec = GrpcCodec(OipCodec(servers["m"].model))
    with suppress(DecodeError, RequestError):
        answered(servers["m"], codec, codec.parse(MESSAGES["ModelInferRequest"].FromString(content), Envelope()))


# --- bytes ------------------------------------------------------------------------------------------------------------


@RUNS
@given(content=st.binary(max_size=200), encoding=st.sampled_from(["gzip", "x-gzip", "deflate", "identity", " GZIP "]))
def test_packed_bodies(content: bytes, encoding: str) -> None:
    """Noise, cut streams and streams with more behind them; what was packed by the book comes out whole."""
    headers = {"content-encoding": encoding}
    bits = {"gzip": 31, "x-gzip": 31, "deflate": 15}.get(encoding.strip().lower())
    bodies = [content]
    if bits is not None:
        packer = zlib.compressobj(wbits=bits)
        whole = packer.compress(content) + packer.flush()
        assert unpacked(whole, headers, 200) == content
        bodies += [whole[:-1], whole + b"x", whole + whole, whole[: len(whole) // 2]]
    for body in bodies:
        with suppress(RequestError, PayloadTooLargeError):
            assert len(unpacked(body, headers, 200)) <= 200


@RUNS
@given(
    content=st.binary(max_size=64),
    datatype=st.sampled_from(sorted(TYPES)),
    shape=st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=6),
    size=st.one_of(st.integers(-2, 80), st.sampled_from([None, "8", 1.0, True, 2**80])),
    length=st.one_of(st.none(), st.integers(-1, 80).map(str), st.text(max_size=20)),
)
def test_tensors_as_bytes(content: bytes, datatype: str, shape: list[int], size: Any, length: str | None) -> None:
    """Splitting a body, taking parts of it, reading numbers and elements: a `RequestError` or what was asked for."""
    with suppress(RequestError):
        head, rest = split_body(content, length)
        assert head + bytes(rest) == content
    with suppress(RequestError):
        assert len(BinaryParts(memoryview(content)).take(size, "x")) == size
    with suppress(RequestError):
        assert read_numbers(memoryview(content), datatype, shape, "x").shape == tuple(shape)
    with suppress(RequestError):
        assert len(read_bytes(memoryview(content), shape[0], "x")) == shape[0]


# --- the corpus -------------------------------------------------------------------------------------------------------


def one_input(data: str, *, name: str = "features", datatype: str = "FP64", shape: str = "[1, 4]") -> bytes:
    return f'{{"inputs": [{{"name": "{name}", "datatype": "{datatype}", "shape": {shape}, "data": {data}}}]}}'.encode()


def row_of(cell: str) -> bytes:
    return f'{{"rows": [{{"age": {cell}, "weight": {cell}, "colour": {cell}}}]}}'.encode()


def bomb() -> str:
    """A PNG that says it has 50,000 by 50,000 pixels, in base64."""
    image = bytearray(png(np.zeros((8, 8, 3), np.uint8)))
    image[16:24] = struct.pack(">II", 50_000, 50_000)
    image[29:33] = struct.pack(">I", zlib.crc32(image[12:29]))
    return base64.b64encode(bytes(image)).decode()


FILES = {
    "no base64": "***",
    "nothing": "",
    "no image": base64.b64encode(b"GIF89a" + bytes(20)).decode(),
    "a cut image": base64.b64encode(png(np.zeros((8, 8, 3), np.uint8))[:40]).decode(),
    "another size": base64.b64encode(png(np.zeros((9, 8, 3), np.uint8))).decode(),
    "a bomb": bomb(),
}
DEEP = b"[" * 2000 + b"]" * 2000
NASTY: dict[str, tuple[str, bytes]] = {
    "an integer of 400 digits": ("m", one_input(f"[{'9' * 400}, 1, 1, 1]")),
    "a float beyond double": ("m", one_input("[1e400, 1, 1, 1]")),
    "a float beneath double": ("m", one_input("[1e-400, 1, 1, 1]")),
    "the largest floats": ("m", one_input("[1.7e308, -1.7e308, 1.7e308, 1.7e308]")),
    "NaN": ("m", one_input("[NaN, 1, 1, 1]")),
    "infinity": ("m", one_input("[Infinity, 1, 1, 1]")),
    "negative zero": ("m", one_input("[-0.0, -0, 1, 1]")),
    "beyond int64": ("m", one_input("[18446744073709551615, 1, 1, 1]", datatype="INT64")),
    "a boolean": ("m", one_input("[true, false, 1, 1]")),
    "nested and flat": ("m", one_input("[[1, 2, 3, 4], 5]", shape="[2, 4]")),
    "nested emptily": ("m", one_input("[[]]")),
    "nested too deep": ("m", one_input("[[[1, 2, 3, 4]]]")),
    "a shape of floats": ("m", one_input("[1, 2, 3, 4]", shape="[1.0, 4.0]")),
    "a shape of booleans": ("m", one_input("[1, 2, 3, 4]", shape="[true, 4]")),
    "a shape of many ones": ("m", one_input("[1]", shape=str([1] * 1000))),
    "an empty shape": ("m", one_input("[1, 2, 3, 4]", shape="[]")),
    "a key twice": ("m", b'{"inputs": [], "inputs": 5}'),
    "a lone surrogate": ("mixed", row_of('"\\ud800"')),
    "a null character": ("mixed", row_of('"\\u0000"')),
    "an endless text": ("mixed", row_of(json.dumps("x" * 100_000))),
    "lists for cells": ("mixed", row_of("[1]")),
    "objects for cells": ("mixed", row_of("{}")),
    "deep nesting": ("m", b'{"inputs": ' + DEEP + b"}"),
    "deep rows": ("mixed", b'{"rows": ' + DEEP + b"}"),
    "a byte order mark": ("m", b"\xef\xbb\xbf{}"),
    "UTF-16": ("m", '{"inputs": []}'.encode("utf-16")),
    "a name of megabytes": ("m", one_input("[1, 2, 3, 4]", name="x" * 1_000_000)),
    "pixels beyond a byte": (
        "picture",
        one_input(str([256] * 20), name="image", datatype="UINT8", shape="[1, 4, 5, 1]"),
    ),
    "pixels below zero": ("picture", one_input(str([-1] * 20), name="image", datatype="UINT8", shape="[1, 4, 5, 1]")),
    "pixels with a fraction": (
        "picture",
        one_input(str([0.5] * 20), name="image", datatype="FP32", shape="[1, 4, 5, 1]"),
    ),
    **{
        f"{name} as a tensor": ("photo", one_input(json.dumps([file]), name="image", datatype="BYTES", shape="[1]"))
        for name, file in FILES.items()
    },
    **{
        f"{name} in a record": ("photo", json.dumps({"rows": [{"image": file}]}).encode())
        for name, file in FILES.items()
    },
}


@pytest.mark.parametrize(("model", "body"), NASTY.values(), ids=NASTY.keys())
def test_the_corpus(servers: dict[str, ModelServer], model: str, body: bytes) -> None:
    """Each by both codecs of HTTP: answered, or refused as the caller's fault."""
    server = servers[model]
    for codec in (OipCodec(server.model), RecordCodec(server)):
        with suppress(RequestError):
            answered(server, codec, codec.parse(body))


def test_a_corpus_entry_is_refused_where_it_must_be(servers: dict[str, ModelServer]) -> None:
    """An image file that is none, or another, is never guessed at."""
    for file in FILES.values():
        assert isinstance(outcome(servers["photo"], json.dumps({"rows": [{"image": file}]}).encode()), RequestError)


def outcome(server: ModelServer, body: bytes) -> Response | BaseException:
    """What comes of records: an answer, or why there is none."""
    try:
        return server._compute_one(RecordCodec(server).parse(body))
    except RequestError as error:
        return error
