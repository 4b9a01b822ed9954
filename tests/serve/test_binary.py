"""Tensors as bytes: they mean what the same tensors in JSON mean, and whatever does not add up is a `RequestError`."""

from __future__ import annotations

import base64
import json
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelane.core.errors import RequestError
from corelane.model.package import ModelPackage
from corelane.serve.again import MOST_FORMS
from corelane.serve.oip import OipCodec
from corelane.serve.request import Envelope, Request, Response
from corelane.web.tensors import write_array
from tests.serve.live import serving, tensor
from tests.serve.packages import image_package, mixed_package, numeric_package, png

ROWS = np.arange(8, dtype=np.float64).reshape(2, 4)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages")


@pytest.fixture(scope="module")
def numeric(home: Path) -> OipCodec:
    return OipCodec(ModelPackage.load(numeric_package(home)))


@pytest.fixture(scope="module")
def mixed(home: Path) -> OipCodec:
    return OipCodec(ModelPackage.load(mixed_package(home)))


@pytest.fixture(scope="module")
def picture(home: Path) -> OipCodec:
    return OipCodec(ModelPackage.load(image_package(home)))


def texts(*values: str | bytes) -> bytes:
    """Elements of BYTES as the protocol has them."""
    plain = [value.encode() if isinstance(value, str) else value for value in values]
    return b"".join(struct.pack("<I", len(value)) + value for value in plain)


def packed(*inputs: tuple[str, str, list[int], bytes], **options: Any) -> tuple[bytes, Envelope]:
    """A body of inputs (name, datatype, shape, bytes), and what its header says."""
    tensors = [
        {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(content)}}
        for name, datatype, shape, content in inputs
    ]
    head = json.dumps({"inputs": tensors, **options}).encode()
    return head + b"".join(content for *_, content in inputs), Envelope(json_length=str(len(head)))


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "INT8", "UINT16", "INT64"])
def test_a_matrix_of_any_number_type(numeric: OipCodec, datatype: str) -> None:
    """Little-endian and row-major."""
    dtype = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "INT8": "i1", "UINT16": "<u2", "INT64": "<i8"}[datatype]
    request = numeric.parse(*packed(("features", datatype, [2, 4], ROWS.astype(dtype).tobytes())))
    assert request.num_rows == 2
    np.testing.assert_array_equal(request.inputs, ROWS)  # type: ignore[arg-type]


def test_columns_in_bytes_and_in_json_together(mixed: OipCodec) -> None:
    """Each tensor takes its bytes in the order of the inputs; NaN is missing."""
    age, weight = np.array([30, 40], "<i4").tobytes(), np.array([np.nan, 70.5], "<f4").tobytes()
    body, envelope = packed(("age", "INT32", [2], age), ("weight", "FP32", [2, 1], weight))
    length = int(envelope.json_length or 0)
    head = json.loads(body[:length])
    head["inputs"].insert(1, tensor("colour", ["red", None], [2], "BYTES"))
    text = json.dumps(head).encode()
    request = mixed.parse(text + body[length:], Envelope(json_length=str(len(text))))
    assert request.inputs["age"].tolist() == [30.0, 40.0]  # type: ignore[index]
    assert request.inputs["colour"] == ["red", None]  # type: ignore[index]
    np.testing.assert_array_equal(request.inputs["weight"], [np.nan, 70.5])  # type: ignore[index]


def test_texts_and_files(mixed: OipCodec, picture: OipCodec, home: Path) -> None:
    """A length before each element; image files need no base64, pixels are a byte each."""
    del home
    age, weight = np.array([30.0]).tobytes(), np.array([70.0]).tobytes()
    colour = ("colour", "BYTES", [1, 1], texts("grün"))
    request = mixed.parse(*packed(("age", "FP64", [1], age), colour, ("weight", "FP64", [1], weight)))
    assert request.inputs["colour"] == ["grün"]  # type: ignore[index]
    (column,) = ModelPackage.load(picture._model.path).pipeline.schema.columns
    height, width, _ = column.shape
    pixels = np.zeros((1, *column.shape), np.uint8)
    request = picture.parse(*packed((column.name, "UINT8", list(pixels.shape), pixels.tobytes())))
    np.testing.assert_array_equal(request.inputs[column.name], pixels)  # type: ignore[index]
    if column.encoded:
        file = base64.b64decode(png(height, width))
        assert picture.parse(*packed((column.name, "BYTES", [1], texts(file)))).inputs[column.name] == [file]  # type: ignore[index]


GOOD = ("features", "FP64", [2, 4], ROWS.tobytes())


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([("features", "FP64", [2, 4], ROWS.tobytes()[:-8])], "must have 64 bytes as its shape"),
        ([("features", "FP64", [2, 4], ROWS.tobytes() + b"x")], "must have 64 bytes as its shape"),
        ([("features", "FP32", [2, 4], ROWS.tobytes())], "must have 32 bytes"),
        ([("features", "FP64", [2**31 - 1, 4], ROWS.tobytes())], "must have 68719476704 bytes"),
        ([("features", "BF16", [2, 4], ROWS.tobytes())], "datatype of 'features' must be"),
        ([("features", "BYTES", [2, 4], ROWS.tobytes())], "datatype of 'features' must be"),
        ([("features", "BOOL", [2, 4], bytes(8))], "datatype of 'features' must be"),
        ([("features", "FP64", [2, 3], ROWS.tobytes()[:48])], "shape of 'features' must be"),
        ([("features", "FP64", [0, 4], b"")], "shape of 'features' must be"),
    ],
)
def test_bytes_that_do_not_add_up(numeric: OipCodec, inputs: list[Any], words: str) -> None:
    """The tensor, what must be and what was got."""
    with pytest.raises(RequestError, match=words):
        numeric.parse(*packed(*inputs))


@pytest.mark.parametrize("length", ["-1", "1e3", "99999", "", "+5", "0x10", "9" * 30, "٣", " 5"])
def test_a_length_that_is_none(numeric: OipCodec, length: str) -> None:
    """The header is a number of bytes within the body, in plain digits."""
    body, _ = packed(GOOD)
    with pytest.raises(RequestError, match="must be at most the body's"):
        numeric.parse(body, Envelope(json_length=length))


@pytest.mark.parametrize("size", [-1, 65, 2**70, 1.0, "64", True, None, [64]])
def test_a_size_that_is_none(numeric: OipCodec, size: Any) -> None:
    """A tensor's size is a whole number of the bytes that are left; null is none."""
    one = {"name": "features", "datatype": "FP64", "shape": [2, 4], "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [one]}).encode()
    with pytest.raises(RequestError):
        numeric.parse(head + ROWS.tobytes(), Envelope(json_length=str(len(head))))


def test_nothing_is_left_over_or_said_twice(numeric: OipCodec) -> None:
    """Bytes behind the last tensor, bytes that no tensor claims, and elements in both places."""
    body, envelope = packed(GOOD)
    with pytest.raises(RequestError, match="got 1 bytes more"):
        numeric.parse(body + b"x", envelope)
    plain = json.dumps({"inputs": [tensor("features", ROWS.ravel().tolist(), [2, 4])]}).encode()
    with pytest.raises(RequestError, match="got 3 bytes more"):
        numeric.parse(plain + b"xyz", Envelope(json_length=str(len(plain))))
    both = {**tensor("features", ROWS.ravel().tolist(), [2, 4]), "parameters": {"binary_data_size": 64}}
    with pytest.raises(RequestError, match="got both"):
        numeric.parse(json.dumps({"inputs": [both]}).encode())


@pytest.mark.parametrize(
    "content",
    [b"", b"\x05\0\0\0abc", b"\xff\xff\xff\xffabc", texts("a", "b"), texts("a") + b"\0", b"\x01\0", texts(b"\xff")],
)
def test_elements_that_do_not_fit(mixed: OipCodec, content: bytes) -> None:
    """Too few, too many, cut, a length that leads out, no UTF-8."""
    age, weight = np.array([30.0]).tobytes(), np.array([70.0]).tobytes()
    body = packed(("age", "FP64", [1], age), ("colour", "BYTES", [1], content), ("weight", "FP64", [1], weight))
    with pytest.raises(RequestError, match="'colour' must hold"):
        mixed.parse(*body)


def test_a_body_that_is_the_tensor(numeric: OipCodec, mixed: OipCodec) -> None:
    """Without JSON: as many rows as there are bytes for; of a model with several inputs it is refused."""
    raw = Envelope(json_length="0")
    request = numeric.parse(ROWS.tobytes(), raw)
    np.testing.assert_array_equal(request.inputs, ROWS)  # type: ignore[arg-type]
    assert request.in_bytes == {"label", "probabilities"}
    for content in (b"", ROWS.tobytes()[:-1]):
        with pytest.raises(RequestError, match="must be rows of 32 bytes"):
            numeric.parse(content, raw)
    with pytest.raises(RequestError, match="must be for a model of one input"):
        mixed.parse(b"", raw)


def outputs_of(reply: bytes, headers: list[tuple[str, str]]) -> dict[str, Any]:
    """A reply taken apart as a client does."""
    length = int(dict(headers)["inference-header-content-length"])
    message, place = json.loads(reply[:length]), length
    found: dict[str, Any] = {"id": message.get("id")}
    for output in message["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[output["name"]] = output["data"]
            continue
        found[output["name"]] = reply[place : place + size]
        place += size
    assert place == len(reply)
    return found


ANSWER = {"label": np.array(["a", "ß"], dtype=object), "probabilities": np.array([[1, 0], [0.5, 0.5]], np.float32)}


@pytest.mark.parametrize(
    ("options", "in_bytes"),
    [
        ({"parameters": {"binary_data_output": True}}, {"label", "probabilities"}),
        ({"outputs": [{"name": "label", "parameters": {"binary_data": True}}, {"name": "probabilities"}]}, {"label"}),
        (
            {
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "label", "parameters": {"binary_data": False}}, {"name": "probabilities"}],
            },
            {"probabilities"},
        ),
    ],
)
def test_outputs_come_as_they_are_asked_for(numeric: OipCodec, options: dict[str, Any], in_bytes: set[str]) -> None:
    """All, one by one, and one's own wish before the request's."""
    request = numeric.parse(*packed(GOOD, id="7", **options))
    reply, headers = numeric.render(Response(request, ANSWER))
    assert ("content-type", "application/octet-stream") in headers
    found = outputs_of(reply, headers)
    assert found["id"] == "7"
    assert (found["label"] == texts("a", "ß")) == ("label" in in_bytes)
    assert (found["probabilities"] == ANSWER["probabilities"].tobytes()) == ("probabilities" in in_bytes)


def test_arrays_are_written_little_endian() -> None:
    """Whatever their order and layout in memory."""
    array = np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3))
    assert write_array(array) == np.arange(6, dtype="<i4").tobytes()


@given(body=st.binary(max_size=300), cut=st.integers(0, 310))
def test_no_bytes_do_more_than_be_refused(body: bytes, cut: int) -> None:
    """Whatever comes, with whatever header, is a request or a `RequestError`."""
    codec = _codec()
    for content in (body, packed(GOOD)[0][:cut] + body):
        with suppress(RequestError):
            assert isinstance(codec.parse(content, Envelope(json_length=str(cut))), Request)


_KEPT: list[OipCodec] = []


def _codec() -> OipCodec:
    return _KEPT[0]


@pytest.fixture(scope="module", autouse=True)
def kept(numeric: OipCodec) -> None:
    _KEPT.append(numeric)


def test_over_the_wire(home: Path) -> None:
    """Through a real server: bytes in and out, packed or not, and the answer of the same request in JSON."""
    with serving(numeric_package(home, "wire")) as server:
        plain = {"inputs": [tensor("features", ROWS.ravel().tolist(), [2, 4])]}
        expected = server.ask("POST", "/v2/models/wire/infer", plain).json["outputs"]
        body, envelope = packed(GOOD, parameters={"binary_data_output": True})
        headers = {"Inference-Header-Content-Length": str(envelope.json_length)}
        headers["Content-Type"] = "application/octet-stream"
        reply = server.ask("POST", "/v2/models/wire/infer", body, headers)
        found = outputs_of(reply.body, list(reply.headers.items()))
        chances = next(one["data"] for one in expected if one["name"] == "probabilities")
        np.testing.assert_allclose(np.frombuffer(found["probabilities"], "<f4"), chances, rtol=1e-6)
        raw = server.ask(
            "POST", "/v2/models/wire/infer", ROWS.tobytes(), {**headers, "Inference-Header-Content-Length": "0"}
        )
        assert outputs_of(raw.body, list(raw.headers.items()))["probabilities"] == found["probabilities"]
        refused = server.ask("POST", "/v1/models/wire:predict", body, headers)
        assert (refused.status, "must be JSON alone" in refused.json["error"]) == (400, True)
        assert "binary_tensor_data" in server.ask("GET", "/v2").json["extensions"]


# --- requests whose JSON comes again ----------------------------------------------------------------------------------


def facts(request: Request) -> tuple[Any, ...]:
    """All that a request says, in a form that can be compared."""
    columns = request.inputs if isinstance(request.inputs, dict) else {"": request.inputs}
    arrays = [(name, values.dtype, values.shape, values.tobytes()) for name, values in columns.items()]  # type: ignore[union-attr]
    rest = (request.num_rows, request.num_bytes, request.deadline_s, request.id, request.outputs)
    return arrays, rest, request.in_bytes, request.wants_receipt


ASKED = st.tuples(
    st.sampled_from(["<f4", "<f8", "<f2", "<i8", "|u1"]),
    st.integers(1, 3),
    st.sampled_from(
        [
            {},
            {"parameters": {"binary_data_output": True}},
            {"outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}]},
            {"id": "7"},
            {"parameters": {"timeout": 1000}},
            {"parameters": {"receipt": True}},
        ]
    ),
    st.booleans(),
    st.floats(1, 100),
)
TYPE_NAMES = {"<f4": "FP32", "<f8": "FP64", "<f2": "FP16", "<i8": "INT64", "|u1": "UINT8"}


@given(st.lists(ASKED, min_size=2, max_size=8))
def test_a_request_means_the_same_when_its_words_come_again(
    numeric: OipCodec, asked: list[tuple[str, int, dict[str, Any], bool, float]]
) -> None:
    """Whatever was asked before, as a codec says that sees such words for the first time."""
    for number, (dtype, num_rows, options, wants_receipt, arrived_s) in enumerate(asked):
        values = (np.arange(num_rows * 4) + number).astype(dtype).reshape(num_rows, 4)
        body, said = packed(("features", TYPE_NAMES[dtype], [num_rows, 4], values.tobytes()), **options)
        envelope = Envelope(arrived_s, arrived_s + 5, said.json_length, wants_receipt, arrived_s + 9)
        fresh = OipCodec(numeric._model)
        assert facts(numeric.parse(body, envelope)) == facts(fresh.parse(body, envelope))


def test_words_that_come_again_with_other_bytes_are_judged_anew(numeric: OipCodec, picture: OipCodec) -> None:
    """More or fewer bytes behind them are refused as before, and rows of pixels are the new ones."""
    body, envelope = packed(("features", "FP32", [2, 4], ROWS.astype("<f4").tobytes()))
    for _ in range(2):
        numeric.parse(body, envelope)
        for other in (body + b"x", body[:-1]):
            with pytest.raises(RequestError, match=r"must end with its last tensor|up to the 31 left"):
                numeric.parse(other, envelope)
    (column,) = picture._columns.values()
    for level in (3, 200):
        pixels = np.full((2, *column.shape), level, dtype=np.uint8)
        request = picture.parse(*packed((column.name, "UINT8", list(pixels.shape), pixels.tobytes())))
        np.testing.assert_array_equal(request.inputs[column.name], pixels)  # type: ignore[call-overload]


def test_a_deadline_that_is_spelled_with_escapes_counts_each_time(numeric: OipCodec) -> None:
    """JSON may write any letter as its number."""
    body, envelope = packed(("features", "FP32", [2, 4], ROWS.astype("<f4").tobytes()), parameters={"timeout": 1000})
    length = int(envelope.json_length or 0)
    head = body[:length].replace(b"timeout", b"\\u0074imeout")
    for _ in range(3):
        request = numeric.parse(head + body[length:], Envelope(5.0, 35.0, str(len(head)), latest_s=35.0))
        assert request.deadline_s == pytest.approx(5.001)


def test_only_so_many_forms_are_remembered(numeric: OipCodec) -> None:
    """A client with ever new words costs no memory, and is answered as any other."""
    for number in range(3 * MOST_FORMS):
        for _ in range(2):
            request = numeric.parse(
                *packed(("features", "FP32", [2, 4], ROWS.astype("<f4").tobytes()), parameters={"mine": number})
            )
            np.testing.assert_array_equal(request.inputs, ROWS)  # type: ignore[arg-type]
    assert len(numeric._forms._forms) <= MOST_FORMS
