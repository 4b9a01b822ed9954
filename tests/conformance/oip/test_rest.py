"""What the Open Inference Protocol v2 requires over HTTP, of any server of it: `inference_rest.md`.

Where the published texts contradict each other, a test holds what all of them allow, and says so.
"""

from __future__ import annotations

import json
from math import prod
from typing import Any
from urllib.parse import quote

import pytest

from tests.conformance.oip.peer import DATATYPES, Peer, assert_alike, assert_refused, flat, nested, outputs_of

# --- the server -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_server_metadata_has_name_version_and_extensions(peer: Peer, path: str) -> None:
    """All three are required. The text writes the path without a slash at its end, the YAML with one."""
    reply = peer.ask("GET", path)
    assert reply.status == 200
    assert isinstance(reply.json["name"], str)
    assert isinstance(reply.json["version"], str)
    assert isinstance(reply.json["extensions"], list)
    assert all(isinstance(name, str) for name in reply.json["extensions"])


@pytest.mark.parametrize(("path", "key"), [("/v2/health/live", "live"), ("/v2/health/ready", "ready")])
def test_liveness_and_readiness_are_told_by_status_200(peer: Peer, path: str, key: str) -> None:
    """The status is what counts. A body may be left out, or is an object; the text calls the key of both `live`."""
    reply = peer.ask("GET", path)
    assert reply.status == 200
    if reply.body:
        assert reply.json.get(key, reply.json.get("live")) is True


def test_an_unknown_path_is_no_server_error(peer: Peer) -> None:
    """Whatever is asked for, it is the caller's fault."""
    assert 400 <= peer.ask("GET", "/v2/nothing").status < 500


# --- a model ----------------------------------------------------------------------------------------------------------


def test_model_readiness_is_told_by_status_200(peer: Peer) -> None:
    """A body may be left out, or is `{name, ready}`."""
    reply = peer.ask("GET", f"{peer.base}/ready")
    assert reply.status == 200
    if reply.body:
        assert reply.json.get("ready") is True
        assert reply.json.get("name", peer.model) == peer.model


def test_model_metadata_has_name_platform_and_tensors(peer: Peer) -> None:
    """Name and platform are required; a tensor has name, datatype and shape, a free length being -1."""
    reply = peer.ask("GET", peer.base)
    assert reply.status == 200
    assert reply.json["name"] == peer.model
    assert isinstance(reply.json["platform"], str)
    tensors = [*reply.json.get("inputs", []), *reply.json.get("outputs", [])]
    for tensor in tensors:
        assert isinstance(tensor["name"], str)
        assert tensor["datatype"] in DATATYPES
        assert all(isinstance(length, int) and length >= -1 for length in tensor["shape"])


def test_a_model_is_found_by_its_name_in_percent_encoding(peer: Peer) -> None:
    """Clients quote names; RFC 3986 has both spellings mean the same path."""
    spelled = "".join(f"%{byte:02X}" for byte in peer.model.encode())
    assert peer.ask("GET", f"/v2/models/{spelled}").status == 200
    assert peer.ask("GET", f"/v2/models/{quote(peer.model, safe='')}").status == 200


@pytest.mark.parametrize("path", ["", "/ready", "/infer"])
def test_an_unknown_model_is_refused(peer: Peer, path: str) -> None:
    """Readiness by its status alone; the others with `{"error": ...}`."""
    base = f"/v2/models/no-such-model{path}"
    reply = peer.ask("POST", base, peer.request) if path == "/infer" else peer.ask("GET", base)
    if path == "/ready":
        assert 400 <= reply.status < 600
    else:
        assert_refused(reply)


def versions_of(peer: Peer) -> list[str]:
    versions: list[str] = peer.metadata.get("versions") or []
    if not versions:
        pytest.skip("needs versions in the model's metadata, which names none")
    return versions


def test_a_listed_version_answers_metadata_readiness_and_inference(peer: Peer) -> None:
    """The YAML lists these paths alone; a version that is told of exists."""
    for version in versions_of(peer):
        base = f"{peer.base}/versions/{version}"
        assert peer.ask("GET", base).status == 200
        assert peer.ask("GET", f"{base}/ready").status == 200
        reply = peer.ask("POST", f"{base}/infer", peer.request)
        assert reply.status == 200
        assert reply.json["model_version"] == version


def test_an_unknown_version_is_refused(peer: Peer) -> None:
    """Never answered by another version."""
    versions_of(peer)
    base = f"{peer.base}/versions/987654321"
    assert_refused(peer.ask("GET", base))
    assert_refused(peer.ask("POST", f"{base}/infer", peer.request))


# --- inference --------------------------------------------------------------------------------------------------------


def test_an_answer_has_model_name_and_whole_outputs(peer: Peer) -> None:
    """Each output has name, shape, datatype and as many elements as its shape says, and is one of the metadata's."""
    reply = peer.infer(peer.request)
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"].startswith("application/json")
    assert reply.json["model_name"] == peer.model
    described = {tensor["name"]: tensor for tensor in peer.metadata["outputs"]}
    assert reply.json["outputs"]
    for output in reply.json["outputs"]:
        meta = described[output["name"]]
        assert output["datatype"] == meta["datatype"]
        assert len(output["shape"]) == len(meta["shape"])
        assert all(want in (-1, got) for want, got in zip(meta["shape"], output["shape"], strict=True))
        assert len(flat(output["data"])) == prod(output["shape"])


def test_without_outputs_in_the_request_all_come_back(peer: Peer) -> None:
    """Every output of the metadata."""
    assert set(outputs_of(peer.infer(peer.request))) == {tensor["name"] for tensor in peer.metadata["outputs"]}


def test_nested_data_means_what_flat_data_means(peer: Peer) -> None:
    """Both are row-major."""
    inputs = [{**one, "data": nested(flat(one["data"]), one["shape"])} for one in peer.request["inputs"]]
    flattened = [{**one, "data": flat(one["data"])} for one in peer.request["inputs"]]
    assert_alike(outputs_of(peer.infer({"inputs": inputs})), outputs_of(peer.infer({"inputs": flattened})))


def test_an_id_comes_back(peer: Peer) -> None:
    """As it was sent."""
    assert peer.infer({"id": "order-66", **peer.request}).json["id"] == "order-66"


def test_without_an_id_none_is_made_up(peer: Peer) -> None:
    """The text shows it as required, the YAML does not: it is the identifier that the request has, if it has one."""
    assert not peer.infer(peer.request).json.get("id")


def test_only_the_outputs_asked_for_come_back(peer: Peer) -> None:
    """By name."""
    name = peer.metadata["outputs"][-1]["name"]
    assert list(outputs_of(peer.infer({**peer.request, "outputs": [{"name": name}]}))) == [name]


def test_an_unknown_output_is_refused(peer: Peer) -> None:
    """It cannot be given."""
    assert_refused(peer.infer({**peer.request, "outputs": [{"name": "no-such-output"}]}))


@pytest.mark.parametrize("value", ["text", 7, 0.5, True], ids=["string", "integer", "number", "boolean"])
def test_parameters_are_strings_numbers_and_booleans(peer: Peer, value: Any) -> None:
    """A server may not know one; it still answers."""
    first, *others = peer.request["inputs"]
    tagged = {**first, "parameters": {"kit_unknown": value}}
    assert peer.infer({"parameters": {"kit_unknown": value}, "inputs": [tagged, *others]}).status == 200


# --- refusals ---------------------------------------------------------------------------------------------------------

MALFORMED = {
    "no JSON": b"{nonsense",
    "no UTF-8": b'{"inputs": "\xff"}',
    "nothing": b"",
    "a list": [],
    "a number": 5,
    "no inputs": {},
    "inputs of null": {"inputs": None},
    "no input": {"inputs": []},
    "inputs no list": {"inputs": {"name": "x"}},
    "an input no object": {"inputs": [5]},
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_body_is_refused_with_an_error(peer: Peer, body: Any) -> None:
    """`{"error": string}`, as the text has it, whatever framework reads the body."""
    assert_refused(peer.infer(body, {"Content-Type": "application/json"}))


CHANGES: dict[str, dict[str, Any]] = {
    "no name": {"name": None},
    "no shape": {"shape": None},
    "no datatype": {"datatype": None},
    "no data": {"data": None},
    "an unknown name": {"name": "no-such-input"},
    "an unknown datatype": {"datatype": "FP1000"},
    "a datatype of another type": {"datatype": 5},
    "a shape no list": {"shape": 1},
    "a shape of texts": {"shape": ["1"]},
    "a length below zero": {"shape": [-1]},
    "a length beyond 64 bits": {"shape": [2**64]},
    "a product beyond 64 bits": {"shape": [2**32, 2**32]},
    "data no list": {"data": "text"},
    "data of objects": {"data": [{}]},
    "more data than the shape says": {"data": [1] * 1000},
    "less data than the shape says": {"data": []},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_an_input_that_does_not_add_up_is_refused_with_an_error(peer: Peer, change: dict[str, Any]) -> None:
    """And is not computed as something else."""
    assert_refused(peer.infer(peer.with_first(**change)))


def test_an_input_given_twice_is_refused(peer: Peer) -> None:
    """Which of the two is meant cannot be known."""
    assert_refused(peer.infer({"inputs": [*peer.request["inputs"], peer.first]}))


def test_deep_nesting_is_refused(peer: Peer) -> None:
    """Neither a crash nor a long wait; the next request is answered."""
    deep = b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert_refused(peer.infer(deep, {"Content-Type": "application/json"}))
    assert peer.infer(peer.request).status == 200


def test_a_connection_stays_in_step_after_a_refusal(peer: Peer) -> None:
    """What follows on the same connection is answered as if nothing had been."""
    connection = peer.connect()
    try:
        for body, status in ((b"{", None), (json.dumps(peer.request).encode(), 200)):
            connection.request("POST", f"{peer.base}/infer", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            assert status is None or answer.status == status
    finally:
        connection.close()
