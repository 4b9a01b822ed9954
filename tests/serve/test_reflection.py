"""gRPC's reflection: off unless asked for, and then what gRPC's own client for it needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from corelane.serve.messages import HEALTH_SERVICE, MESSAGES, SERVICE
from corelane.serve.reflection import SERVICES
from tests.serve.live import serving
from tests.serve.packages import numeric_package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numeric_package(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module")
def channel(package: Path) -> Iterator[grpc.Channel]:
    with (
        serving(package, grpc_port=0, grpc_reflection=True) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as opened,
    ):
        yield opened


def test_a_client_without_proto_files_learns_to_ask(channel: grpc.Channel) -> None:
    """Services, calls and messages as told are enough to ask for the metadata of the model."""
    told = ProtoReflectionDescriptorDatabase(channel)
    assert set(told.get_services()) == {SERVICE, HEALTH_SERVICE}
    service = DescriptorPool(told).FindServiceByName(SERVICE)
    assert {f"{method.name}Request" for method in service.methods} == {one for one in MESSAGES if one[-7:] == "Request"}
    method = service.methods_by_name["ModelMetadata"]
    ask = channel.unary_unary(
        f"/{SERVICE}/ModelMetadata",
        request_serializer=message_factory.GetMessageClass(method.input_type).SerializeToString,
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )
    reply = ask(message_factory.GetMessageClass(method.input_type)(name="m"), timeout=10)
    assert [one.name for one in reply.inputs] == ["features"]


def test_every_call_that_is_told_of_is_answered(channel: grpc.Channel) -> None:
    """None of them is unknown to the server."""
    calls = [name.removesuffix("Request") for name in MESSAGES if name.endswith("Request")]
    codes = {name: code_of(channel.unary_unary(f"/{SERVICE}/{name}").with_call) for name in calls}
    assert grpc.StatusCode.UNIMPLEMENTED not in codes.values()


def code_of(call: Any) -> grpc.StatusCode:
    """How a call with an empty message ends."""
    try:
        return call(b"", timeout=10)[1].code()  # type: ignore[no-any-return]
    except grpc.RpcError as error:
        return error.code()  # type: ignore[attr-defined,no-any-return]


def test_what_there_is_not_is_told_as_that(channel: grpc.Channel) -> None:
    """Unknown symbols, files and extensions are errors within the stream, which goes on."""
    ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    request = reflection_pb2.ServerReflectionRequest
    asked = [
        request(file_containing_symbol="inference.Nothing"),
        request(file_by_filename="nothing.proto"),
        request(all_extension_numbers_of_type="inference.ModelInferRequest"),
        request(),
        request(host="here", file_containing_symbol=f"{SERVICE}.ModelInfer"),
    ]
    *errors, found = list(ask(iter(asked), timeout=10))
    assert [one.error_response.error_code for one in errors] == [grpc.StatusCode.NOT_FOUND.value[0]] * 4
    assert found.file_descriptor_response.file_descriptor_proto
    assert (found.valid_host, found.original_request.host) == ("here", "here")


def test_it_is_off_unless_asked_for(package: Path) -> None:
    """Both of its names are unknown then."""
    with (
        serving(package, grpc_port=0) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        for service in SERVICES:
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(f"/{service}/ServerReflectionInfo")(b"", timeout=5)
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]
