"""The binary tensor extension, of any server that declares it: Triton's `extension_binary_data.md`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conformance.oip.peer import (
    BINARY,
    JSON_LENGTH,
    SIZE,
    Peer,
    assert_alike,
    assert_refused,
    content_of,
    described,
    joined,
    outputs_of,
)

LENGTH = JSON_LENGTH.lower()


@pytest.fixture(autouse=True)
def is_declared(peer: Peer) -> None:
    peer.needs(BINARY)


def test_inputs_as_bytes_are_answered_as_those_in_json(peer: Peer) -> None:
    """The JSON, and behind it every input's elements."""
    reply = peer.infer(*peer.packed())
    assert reply.status == 200, reply.body
    assert_alike(outputs_of(reply), outputs_of(peer.infer(peer.request)))


def test_without_the_flag_outputs_come_in_json(peer: Peer) -> None:
    """Also where inputs came as bytes; then the header is not sent, or counts the whole body."""
    reply = peer.infer(*peer.packed())
    assert int(reply.headers.get(LENGTH, len(reply.body))) == len(reply.body)
    assert all("data" in output for output in reply.json["outputs"])


def test_all_outputs_come_as_bytes_when_the_request_says_so(peer: Peer) -> None:
    """`binary_data_output`; sizes add up to the body, and Content-Length counts all of it."""
    body, headers = peer.packed(parameters={"binary_data_output": True})
    reply = peer.infer(body, headers)
    assert reply.status == 200, reply.body
    head = json.loads(reply.body[: int(reply.headers[LENGTH])])
    assert all(SIZE in output["parameters"] and "data" not in output for output in head["outputs"])
    assert int(reply.headers["content-length"]) == len(reply.body)
    assert_alike(outputs_of(reply), outputs_of(peer.infer(peer.request)))


def test_one_output_comes_as_bytes_when_it_says_so(peer: Peer) -> None:
    """`binary_data` of an output, here with inputs in JSON."""
    names = [tensor["name"] for tensor in peer.metadata["outputs"]]
    wanted = [{"name": name, "parameters": {"binary_data": name == names[-1]}} for name in names]
    reply = peer.infer({**peer.request, "outputs": wanted})
    head = json.loads(reply.body[: int(reply.headers[LENGTH])])
    are_bytes = {output["name"]: SIZE in output.get("parameters", {}) for output in head["outputs"]}
    assert are_bytes == {name: name == names[-1] for name in names}
    assert_alike(outputs_of(reply), outputs_of(peer.infer(peer.request)))


def test_the_flag_of_an_output_wins_over_that_of_the_request(peer: Peer) -> None:
    """An output that says false comes in JSON."""
    name = peer.metadata["outputs"][0]["name"]
    wanted = [{"name": name, "parameters": {"binary_data": False}}]
    reply = peer.infer({**peer.request, "parameters": {"binary_data_output": True}, "outputs": wanted})
    assert reply.status == 200, reply.body
    length = int(reply.headers.get(LENGTH, len(reply.body)))
    assert "data" in json.loads(reply.body[:length])["outputs"][0]


def test_a_header_that_counts_the_whole_body_means_json(peer: Peer) -> None:
    """Nothing is behind it then."""
    body = json.dumps(peer.request).encode()
    reply = peer.infer(body, {JSON_LENGTH: str(len(body))})
    assert reply.status == 200, reply.body


def test_some_inputs_may_be_bytes_and_others_json(peer: Peer) -> None:
    """Each by itself."""
    first, *others = peer.request["inputs"]
    if not others:
        pytest.skip("needs a model of two inputs or more")
    body, headers = joined({"inputs": [*others, described(first)]}, [content_of(first)])
    assert_alike(outputs_of(peer.infer(body, headers)), outputs_of(peer.infer(peer.request)))


def test_a_raw_request_is_answered_in_bytes_or_refused(peer: Peer) -> None:
    """A header of 0: the body is the one input. Only for a model of one input with at most one free length."""
    body = b"".join(peer.raw())
    reply = peer.infer(body, {JSON_LENGTH: "0", "Content-Type": "application/octet-stream"})
    [first, *others] = peer.metadata["inputs"]
    if others or first["shape"].count(-1) > 1:
        assert_refused(reply)
        return
    assert reply.status == 200, reply.body
    head = json.loads(reply.body[: int(reply.headers[LENGTH])])
    assert all(SIZE in output["parameters"] for output in head["outputs"])
    assert_alike(outputs_of(reply), outputs_of(peer.infer(peer.request)))


# --- refusals, each of which was a fault of a server once -------------------------------------------------------------


@pytest.mark.parametrize("length", ["-1", "99999999", "9" * 30, "abc", "1.5", "0x10", "+5", ""])
def test_a_json_length_that_is_none_is_refused(peer: Peer, length: str) -> None:
    """It is a number of bytes within the body."""
    body, headers = peer.packed()
    assert_refused(peer.infer(body, {**headers, JSON_LENGTH: length}))


def test_a_json_length_that_cuts_the_json_is_refused(peer: Peer) -> None:
    """One byte less, and one more."""
    body, headers = peer.packed()
    for by in (-1, 1):
        assert_refused(peer.infer(body, {**headers, JSON_LENGTH: str(int(headers[JSON_LENGTH]) + by)}))


def test_bytes_without_the_header_are_refused(peer: Peer) -> None:
    """The whole body is JSON then, which it is not."""
    body, _ = peer.packed()
    assert_refused(peer.infer(body, {"Content-Type": "application/octet-stream"}))


@pytest.mark.parametrize("size", [-1, 0, 1, 2**40, 2**64, "8", 1.5, None])
def test_a_size_that_is_not_the_tensors_is_refused(peer: Peer, size: Any) -> None:
    """Shape and datatype say how many bytes there must be."""
    first, *others = [described(tensor) for tensor in peer.request["inputs"]]
    wrong = {**first, "parameters": {SIZE: size}}
    assert_refused(peer.infer(*joined({"inputs": [wrong, *others]}, peer.raw())))


def test_bytes_that_no_tensor_claims_are_refused(peer: Peer) -> None:
    """The sizes add up to what is behind the JSON."""
    body, headers = peer.packed()
    assert_refused(peer.infer(body + b"\0", headers))
    assert_refused(peer.infer(body[:-1], headers))


def test_a_shape_whose_product_overflows_is_refused(peer: Peer) -> None:
    """2**32 times 2**32 is no 0."""
    first, *others = [described(tensor) for tensor in peer.request["inputs"]]
    for shape in ([2**32, 2**32], [2**31, 2**31, 4]):
        assert_refused(peer.infer(*joined({"inputs": [{**first, "shape": shape}, *others]}, peer.raw())))


def test_an_output_asked_for_twice_is_refused(peer: Peer) -> None:
    """Triton's fault of 2025."""
    name = peer.metadata["outputs"][0]["name"]
    wanted = [{"name": name, "parameters": {"binary_data": True}}] * 2
    assert_refused(peer.infer(*peer.packed(outputs=wanted)))


def test_elements_of_bytes_whose_lengths_lead_out_are_refused(peer: Peer) -> None:
    """The four bytes before an element count what is there."""
    index = next((i for i, one in enumerate(peer.request["inputs"]) if one["datatype"] == "BYTES"), None)
    if index is None:
        pytest.skip("needs a model with an input of BYTES")
    contents = peer.raw()
    for wrong in (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\0"):
        contents[index] = wrong + contents[index][4:]
        inputs = [described(tensor) for tensor in peer.request["inputs"]]
        assert_refused(peer.infer(*joined({"inputs": inputs}, contents)))
