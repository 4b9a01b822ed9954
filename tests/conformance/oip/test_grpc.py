"""What the Open Inference Protocol v2 requires over gRPC, of any server of it: `open_inference_grpc.proto`.

The messages are those of Triton's client, which are the protocol's and more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.conformance.oip.peer import Peer, assert_alike, elements_of, flat, outputs_of

CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
OUR_FAULTS = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNIMPLEMENTED}
PROPERTIES = 6  # the field of ModelMetadataResponse that the protocol has and Triton's messages have not


@pytest.fixture
def channel(peer: Peer) -> Iterator[grpc.Channel]:
    if peer.grpc is None:
        pytest.skip("needs the address of the server's gRPC form: --oip-grpc host:port")
    with grpc.insecure_channel(peer.grpc) as opened:
        yield opened


@pytest.fixture
def stub(channel: grpc.Channel) -> Any:
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


def message(peer: Peer, *, is_raw: bool, **fields: Any) -> Any:
    """The kit's request as a message, its elements raw or in `contents`."""
    made = service_pb2.ModelInferRequest(model_name=peer.model, **fields)
    for tensor, raw in zip(peer.request["inputs"], peer.raw(), strict=True):
        given = made.inputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
        if is_raw:
            made.raw_input_contents.append(raw)
            continue
        if tensor["datatype"] not in CONTENTS:
            pytest.skip(f"needs inputs that have contents, which {tensor['datatype']} has not")
        elements = flat(tensor["data"])
        if tensor["datatype"] == "BYTES":
            elements = [text.encode() for text in elements]
        getattr(given.contents, CONTENTS[tensor["datatype"]]).extend(elements)
    return made


def answers(reply: Any) -> dict[str, list[Any]]:
    """Elements by output, whether they came raw or in `contents`."""
    if reply.raw_output_contents:
        return {
            one.name: elements_of(raw, one.datatype)
            for one, raw in zip(reply.outputs, reply.raw_output_contents, strict=True)
        }
    found = {}
    for output in reply.outputs:
        elements = list(getattr(output.contents, CONTENTS[output.datatype]))
        found[output.name] = [one.decode() for one in elements] if output.datatype == "BYTES" else elements
    return found


def assert_refused(stub: Any, request: Any) -> grpc.StatusCode:
    """Assert that a call is refused as the caller's fault, and return its status."""
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request, timeout=30)
    code: grpc.StatusCode = caught.value.code()
    assert code not in OUR_FAULTS, caught.value.details()
    return code


def test_the_server_is_live_and_ready(stub: Any) -> None:
    """By `ServerLive` and `ServerReady`."""
    assert stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=30).live is True
    assert stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=30).ready is True


def test_the_model_is_ready(peer: Peer, stub: Any) -> None:
    """By `ModelReady`."""
    assert stub.ModelReady(service_pb2.ModelReadyRequest(name=peer.model), timeout=30).ready is True


def test_metadata_is_that_of_http(peer: Peer, stub: Any) -> None:
    """Of the server and of the model."""
    server = stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=30)
    assert {"name": server.name, "version": server.version, "extensions": list(server.extensions)} == peer.ask(
        "GET", "/v2"
    ).json
    model = stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=peer.model), timeout=30)
    assert (model.name, model.platform) == (peer.metadata["name"], peer.metadata["platform"])
    for told, expected in ((model.inputs, peer.metadata["inputs"]), (model.outputs, peer.metadata["outputs"])):
        assert [(one.name, one.datatype, list(one.shape)) for one in told] == [
            (one["name"], one["datatype"], one["shape"]) for one in expected
        ]


def test_properties_are_texts(peer: Peer, channel: grpc.Channel) -> None:
    """Field 6 of the model's metadata is `map<string, string>`; a server that puts parameters there breaks clients."""
    ask = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelMetadata",
        request_serializer=service_pb2.ModelMetadataRequest.SerializeToString,
        response_deserializer=service_pb2.ModelMetadataResponse.FromString,
    )
    reply = ask(service_pb2.ModelMetadataRequest(name=peer.model), timeout=30)
    for unknown in UnknownFieldSet(reply):
        if unknown.field_number != PROPERTIES:
            continue
        entry = service_pb2.ModelReadyRequest.FromString(unknown.data)  # two texts, as an entry of such a map is
        assert not is_parameter(entry.version), f"{entry.name} must be a text, got a parameter"


def is_parameter(text: str) -> bool:
    try:
        return service_pb2.InferParameter.FromString(text.encode()).WhichOneof("parameter_choice") is not None
    except DecodeError:
        return False


@pytest.mark.parametrize("is_raw", [True, False], ids=["raw", "contents"])
def test_an_answer_is_that_of_http(peer: Peer, stub: Any, is_raw: bool) -> None:
    """With raw contents and with typed ones."""
    reply = stub.ModelInfer(message(peer, is_raw=is_raw), timeout=30)
    assert reply.model_name == peer.model
    assert_alike(answers(reply), outputs_of(peer.infer(peer.request)))


def test_an_id_comes_back_and_none_is_made_up(peer: Peer, stub: Any) -> None:
    """As over HTTP."""
    assert stub.ModelInfer(message(peer, is_raw=True, id="order-66"), timeout=30).id == "order-66"
    assert stub.ModelInfer(message(peer, is_raw=True), timeout=30).id == ""


def test_only_the_outputs_asked_for_come_back(peer: Peer, stub: Any) -> None:
    """By name."""
    name = peer.metadata["outputs"][-1]["name"]
    wanted = [service_pb2.ModelInferRequest.InferRequestedOutputTensor(name=name)]
    assert list(answers(stub.ModelInfer(message(peer, is_raw=True, outputs=wanted), timeout=30))) == [name]


def test_parameters_of_every_kind_are_taken(peer: Peer, stub: Any) -> None:
    """A server may not know one; it still answers."""
    request = message(peer, is_raw=True)
    for kind, value in (("bool", True), ("int64", 7), ("string", "text"), ("double", 0.5), ("uint64", 7)):
        request.parameters[f"kit_{kind}"].CopyFrom(service_pb2.InferParameter(**{f"{kind}_param": value}))
    assert stub.ModelInfer(request, timeout=30).outputs


def test_an_unknown_model_is_refused(stub: Any) -> None:
    """Metadata and inference."""
    assert assert_refused(stub, service_pb2.ModelInferRequest(model_name="no-such-model")) in {
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNAVAILABLE,
    }
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelMetadata(service_pb2.ModelMetadataRequest(name="no-such-model"), timeout=30)
    assert caught.value.code() not in OUR_FAULTS


def test_raw_and_typed_contents_together_are_refused(peer: Peer, stub: Any) -> None:
    """Where one input is raw all are, and contents are empty."""
    request = message(peer, is_raw=False)
    request.raw_input_contents.extend(peer.raw())
    assert_refused(stub, request)


def test_raw_contents_that_are_not_one_for_each_input_are_refused(peer: Peer, stub: Any) -> None:
    """One more than there are inputs."""
    request = message(peer, is_raw=True)
    request.raw_input_contents.append(b"")
    assert_refused(stub, request)


def test_raw_contents_of_another_size_are_refused(peer: Peer, stub: Any) -> None:
    """Shape and datatype say how many bytes there must be."""
    for content in (peer.raw()[0] + b"\0", peer.raw()[0][:-1]):
        request = message(peer, is_raw=True)
        request.raw_input_contents[0] = content
        assert_refused(stub, request)


@pytest.mark.parametrize("shape", [[-1], [], [2**62, 4], [2**32, 2**32]], ids=str)
def test_a_shape_that_is_none_is_refused(peer: Peer, stub: Any, shape: list[int]) -> None:
    """Below zero, without a length, and beyond what a machine can count."""
    request = message(peer, is_raw=True)
    del request.inputs[0].shape[:]
    request.inputs[0].shape.extend(shape)
    assert_refused(stub, request)


def test_an_unknown_datatype_and_output_are_refused(peer: Peer, stub: Any) -> None:
    """As over HTTP."""
    request = message(peer, is_raw=True)
    request.inputs[0].datatype = "FP1000"
    assert_refused(stub, request)
    wanted = [service_pb2.ModelInferRequest.InferRequestedOutputTensor(name="no-such-output")]
    assert_refused(stub, message(peer, is_raw=True, outputs=wanted))
