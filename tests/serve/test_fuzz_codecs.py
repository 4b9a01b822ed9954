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
    result = server.runner.compute([request], server.runner.narrow)[0]
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
    inputs, behind = [], b""
    for tensor, content in fitting(server, data):
        if data.draw(st.booleans()):
            inputs.append(tensor)
            continue
        described = {name: value for name, value in tensor.items() if name != "data"}
        inputs.append({**described, "parameters": {"binary_data_size": len(content)}})
        behind += content
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": data.draw(st.booleans())}}).encode()
    with suppress(RequestError):
        answered(server, codec, codec.parse(head + behind, Envelope(json_length=str(len(head)))))


def fitting(server: ModelServer, data: st.DataObject) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The model's inputs in JSON, each with its elements as bytes; one field in seven is anything."""
    num_rows = data.draw(st.integers(1, 3))
    for meta in server.model.signature.inputs:
        shape = [num_rows, *(data.draw(st.integers(1, 4)) if length < 0 else length for length in meta.shape[1:])]
        datatype = data.draw(DATATYPE_NAMES) if is_wild(data) else meta.datatype
        cells = CELLS if is_wild(data) else LEGAL.get(str(datatype), st.floats(-1e30, 1e30))
        count = int(np.prod(shape))
        some = data.draw(st.lists(cells, min_size=min(count, 20), max_size=min(count, 20)))
        elements = (some * (count // max(1, len(some)) + 1))[:count]
        content = as_bytes(elements, datatype)
        if is_wild(data):
            content = data.draw(st.one_of(st.binary(max_size=40), st.just(b"\xff" * len(content))))
        yield {"name": meta.name, "datatype": datatype, "shape": shape, "data": elements}, content


LEGAL: dict[str, st.SearchStrategy[Any]] = {
    "BYTES": st.one_of(
        st.sampled_from(["red", base64.b64encode(png(np.zeros((8, 8, 3), np.uint8))).decode()]), st.text()
    ),
    "UINT8": st.integers(0, 255),
    "BOOL": st.booleans(),
    "FP64": st.one_of(st.floats(0, 100), st.floats(allow_nan=False, allow_infinity=False)),
}


def is_wild(data: st.DataObject) -> bool:
    return data.draw(st.integers(0, 6)) == 6


def as_bytes(elements: list[Any], datatype: Any) -> bytes:
    """Elements as the binary extension has them; noise where they are of another type."""
    if datatype == "BYTES":
        texts = [str(element).encode(errors="surrogatepass") for element in elements]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    try:
        with np.errstate(over="ignore"):
            return np.array(elements, TYPES[datatype]).tobytes()
    except (KeyError, TypeError, ValueError, OverflowError):
        return bytes(8 * len(elements))


@pytest.mark.parametrize("model", MODELS)
@RUNS
@given(rows=st.lists(st.dictionaries(st.sampled_from(NAMES), CELLS), min_size=1, max_size=3), data=st.data())
def test_records(servers: dict[str, ModelServer], model: str, rows: list[dict[str, Any]], data: st.DataObject) -> None:
    """Rows of any columns and values, and rows of the model's own with legal values but for some."""
    server = servers[model]
    codec = RecordCodec(server)
    tensors = {tensor["name"]: tensor for tensor, _ in fitting(server, data)}
    names = server.model.pipeline.schema.names
    own = {name: (tensors[name]["data"] or [None])[0] for name in names}
    for body in ({"rows": rows}, {"rows": [own]}, {"rows": [own, {**own, **rows[0]}]}):
        with suppress(RequestError):
            answered(server, codec, codec.parse(json.dumps(body).encode()))


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
    message = MESSAGES["ModelInferRequest"](model_name=model)
    is_raw = data.draw(st.booleans())
    for given_tensor, content in fitting(server, data):
        shape = [data.draw(INT64)] if is_wild(data) else given_tensor["shape"]
        tensor = message.inputs.add(name=given_tensor["name"], datatype=str(given_tensor["datatype"]), shape=shape)
        if is_raw:
            message.raw_input_contents.append(content)
        elif is_wild(data):
            fill(tensor.contents, data)
        else:
            fill_as_told(tensor.contents, given_tensor)
    with suppress(RequestError):
        answered(server, codec, codec.parse(message, Envelope()))


INT64 = st.integers(-(2**63), 2**63 - 1)


def fill_as_told(contents: Any, tensor: dict[str, Any]) -> None:
    """The elements of `tensor` in the field of its datatype, none where they do not go in."""
    fields = {"FP64": "fp64_contents", "UINT8": "uint_contents", "BYTES": "bytes_contents"}
    field = getattr(contents, fields.get(tensor["datatype"], "int64_contents"))
    with suppress(TypeError, ValueError, AttributeError, UnicodeError):
        is_text = tensor["datatype"] == "BYTES"
        field.extend([one.encode() for one in tensor["data"]] if is_text else tensor["data"])


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
        return server.runner.compute([RecordCodec(server).parse(body)], server.runner.narrow)[0]
    except RequestError as error:
        return error
