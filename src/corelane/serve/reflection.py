"""gRPC's server reflection: which calls and messages there are, for tools that have no `.proto` files.

The source is `grpc/reflection/v1/reflection.proto`; version v1alpha is the same on the wire. It is off unless
`serve.grpc_reflection` is set: what it tells is public, but a server need not tell it to everyone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import grpc
from google.protobuf import descriptor_pb2

from corelane.serve.messages import (
    HEALTH_MESSAGES,
    HEALTH_SERVICE,
    MESSAGES,
    SERVICE,
    Field,
    message_classes,
)

SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""One service under two names: older tools know the second one only."""

_TABLE: Mapping[str, Mapping[str, Field]] = {
    "ExtensionRequest": {"containing_type": (1, "string"), "extension_number": (2, "int32")},
    "ServerReflectionRequest": {
        "host": (1, "string"),
        "file_by_filename": (3, "string"),
        "file_containing_symbol": (4, "string"),
        "file_containing_extension": (5, "ExtensionRequest"),
        "all_extension_numbers_of_type": (6, "string"),
        "list_services": (7, "string"),
    },
    "FileDescriptorResponse": {"file_descriptor_proto": (1, "*bytes")},
    "ServiceResponse": {"name": (1, "string")},
    "ListServiceResponse": {"service": (1, "*ServiceResponse")},
    "ErrorResponse": {"error_code": (1, "int32"), "error_message": (2, "string")},
    "ServerReflectionResponse": {
        "valid_host": (1, "string"),
        "original_request": (2, "ServerReflectionRequest"),
        "file_descriptor_response": (4, "FileDescriptorResponse"),
        "list_services_response": (6, "ListServiceResponse"),
        "error_response": (7, "ErrorResponse"),
    },
}
_CHOICE = "message_request"
_MESSAGES = message_classes("corelane.reflection", _TABLE, {"ServerReflectionRequest": _CHOICE}, outside={"host"})
_NOT_FOUND = grpc.StatusCode.NOT_FOUND.value[0]


class Reflection:
    """Answers for the inference service and gRPC's health check."""

    def __init__(self) -> None:
        calls = [name.removesuffix("Request") for name in MESSAGES if name.endswith("Request")]
        inference = [(call, f"{call}Request", f"{call}Response", False) for call in calls]
        health = [(call, "HealthCheckRequest", "HealthCheckResponse", call == "Watch") for call in ("Check", "Watch")]
        files = [_described(MESSAGES, SERVICE, inference), _described(HEALTH_MESSAGES, HEALTH_SERVICE, health)]
        self._by_name = {file.name: file.SerializeToString() for file in files}
        self._by_symbol = {symbol: self._by_name[file.name] for file in files for symbol in _symbols(file)}

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """What a server adds."""
        method = grpc.stream_stream_rpc_method_handler(
            self._answer_all,
            request_deserializer=_MESSAGES["ServerReflectionRequest"].FromString,
            response_serializer=_MESSAGES["ServerReflectionResponse"].SerializeToString,
        )
        return [grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": method}) for service in SERVICES]

    async def _answer_all(self, requests: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield _MESSAGES["ServerReflectionResponse"](
                valid_host=request.host, original_request=request, **self._answer(request)
            )

    def _answer(self, request: Any) -> dict[str, Any]:
        match request.WhichOneof(_CHOICE):
            case "list_services":
                services = [_MESSAGES["ServiceResponse"](name=name) for name in (SERVICE, HEALTH_SERVICE)]
                return {"list_services_response": _MESSAGES["ListServiceResponse"](service=services)}
            case "file_by_filename":
                return _file_or_error(self._by_name.get(request.file_by_filename))
            case "file_containing_symbol":
                return _file_or_error(self._by_symbol.get(request.file_containing_symbol))
        return _file_or_error(None)  # there are no extensions


def _described(
    classes: Mapping[str, Any], service: str, calls: Iterable[tuple[str, str, str, bool]]
) -> descriptor_pb2.FileDescriptorProto:
    """The file of `classes`, with the `service` of `calls`: name, request, reply, and whether replies are a stream."""
    file = descriptor_pb2.FileDescriptorProto()
    next(iter(classes.values())).DESCRIPTOR.file.CopyToProto(file)
    package, _, name = service.rpartition(".")
    described = file.service.add(name=name)
    for call, request, reply, is_stream in calls:
        ends = {"input_type": f".{package}.{request}", "output_type": f".{package}.{reply}"}
        described.method.add(name=call, server_streaming=is_stream, **ends)
    return file


def _symbols(file: descriptor_pb2.FileDescriptorProto) -> Iterable[str]:
    for message in file.message_type:
        yield f"{file.package}.{message.name}"
    for service in file.service:
        yield f"{file.package}.{service.name}"
        yield from (f"{file.package}.{service.name}.{method.name}" for method in service.method)


def _file_or_error(content: bytes | None) -> dict[str, Any]:
    if content is None:
        error = _MESSAGES["ErrorResponse"](error_code=_NOT_FOUND, error_message="there is no such file or symbol here")
        return {"error_response": error}
    return {"file_descriptor_response": _MESSAGES["FileDescriptorResponse"](file_descriptor_proto=[content])}
