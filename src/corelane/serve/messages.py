"""The messages of the Open Inference Protocol's gRPC form, and of gRPC's health check, as tables.

Names, numbers and types are those of `open_inference_grpc.proto` (kserve/open-inference-protocol), of Triton's
`grpc_service.proto` and `model_config.proto` for its extensions, and of `grpc/health/v1/health.proto`. Message classes
are made of the tables when this module is imported: there is no generated code.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

INFERENCE, HEALTH = "inference", "grpc.health.v1"
SERVICE, HEALTH_SERVICE = f"{INFERENCE}.GRPCInferenceService", f"{HEALTH}.Health"

Field: TypeAlias = tuple[int, str]
"""Number and type: `string`, `*int64` (repeated), `InferParameter` (a message), `{InferParameter}` (by a text)."""

_INFERENCE: Mapping[str, Mapping[str, Field]] = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": (1, "bool")},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": (1, "bool")},
    "ModelReadyRequest": {"name": (1, "string"), "version": (2, "string")},
    "ModelReadyResponse": {"ready": (1, "bool")},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {"name": (1, "string"), "version": (2, "string"), "extensions": (3, "*string")},
    "ModelMetadataRequest": {"name": (1, "string"), "version": (2, "string")},
    "TensorMetadata": {"name": (1, "string"), "datatype": (2, "string"), "shape": (3, "*int64")},
    "ModelMetadataResponse": {
        "name": (1, "string"),
        "versions": (2, "*string"),
        "platform": (3, "string"),
        "inputs": (4, "*TensorMetadata"),
        "outputs": (5, "*TensorMetadata"),
    },
    "InferParameter": {
        "bool_param": (1, "bool"),
        "int64_param": (2, "int64"),
        "string_param": (3, "string"),
        "double_param": (4, "double"),
        "uint64_param": (5, "uint64"),
    },
    "InferTensorContents": {
        "bool_contents": (1, "*bool"),
        "int_contents": (2, "*int32"),
        "int64_contents": (3, "*int64"),
        "uint_contents": (4, "*uint32"),
        "uint64_contents": (5, "*uint64"),
        "fp32_contents": (6, "*float"),
        "fp64_contents": (7, "*double"),
        "bytes_contents": (8, "*bytes"),
    },
    "InferInputTensor": {
        "name": (1, "string"),
        "datatype": (2, "string"),
        "shape": (3, "*int64"),
        "parameters": (4, "{InferParameter}"),
        "contents": (5, "InferTensorContents"),
    },
    "InferRequestedOutputTensor": {"name": (1, "string"), "parameters": (2, "{InferParameter}")},
    "ModelInferRequest": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, "{InferParameter}"),
        "inputs": (5, "*InferInputTensor"),
        "outputs": (6, "*InferRequestedOutputTensor"),
        "raw_input_contents": (7, "*bytes"),
    },
    "InferOutputTensor": {
        "name": (1, "string"),
        "datatype": (2, "string"),
        "shape": (3, "*int64"),
        "parameters": (4, "{InferParameter}"),
        "contents": (5, "InferTensorContents"),
    },
    "ModelInferResponse": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, "{InferParameter}"),
        "outputs": (5, "*InferOutputTensor"),
        "raw_output_contents": (6, "*bytes"),
    },
    "ModelConfigRequest": {"name": (1, "string"), "version": (2, "string")},
    "ModelInput": {"name": (1, "string"), "data_type": (2, "int32"), "dims": (4, "*int64")},
    "ModelOutput": {"name": (1, "string"), "data_type": (2, "int32"), "dims": (3, "*int64")},
    "ModelConfig": {
        "name": (1, "string"),
        "platform": (2, "string"),
        "max_batch_size": (4, "int32"),
        "input": (5, "*ModelInput"),
        "output": (6, "*ModelOutput"),
        "backend": (17, "string"),
    },
    "ModelConfigResponse": {"config": (1, "ModelConfig")},
    "ModelStatisticsRequest": {"name": (1, "string"), "version": (2, "string")},
    "StatisticDuration": {"count": (1, "uint64"), "ns": (2, "uint64")},
    "InferStatistics": {
        "success": (1, "StatisticDuration"),
        "fail": (2, "StatisticDuration"),
        "queue": (3, "StatisticDuration"),
        "compute_input": (4, "StatisticDuration"),
        "compute_infer": (5, "StatisticDuration"),
        "compute_output": (6, "StatisticDuration"),
    },
    "ModelStatistics": {
        "name": (1, "string"),
        "version": (2, "string"),
        "last_inference": (3, "uint64"),
        "inference_count": (4, "uint64"),
        "execution_count": (5, "uint64"),
        "inference_stats": (6, "InferStatistics"),
    },
    "ModelStatisticsResponse": {"model_stats": (1, "*ModelStatistics")},
    "RepositoryIndexRequest": {"repository_name": (1, "string"), "ready": (2, "bool")},
    "ModelIndex": {"name": (1, "string"), "version": (2, "string"), "state": (3, "string"), "reason": (4, "string")},
    "RepositoryIndexResponse": {"models": (1, "*ModelIndex")},
    "ModelRepositoryParameter": {
        "bool_param": (1, "bool"),
        "int64_param": (2, "int64"),
        "string_param": (3, "string"),
        "bytes_param": (4, "bytes"),
    },
    "RepositoryModelLoadRequest": {
        "repository_name": (1, "string"),
        "model_name": (2, "string"),
        "parameters": (3, "{ModelRepositoryParameter}"),
    },
    "RepositoryModelLoadResponse": {},
    "RepositoryModelUnloadRequest": {
        "repository_name": (1, "string"),
        "model_name": (2, "string"),
        "parameters": (3, "{ModelRepositoryParameter}"),
    },
    "RepositoryModelUnloadResponse": {},
}
_HEALTH: Mapping[str, Mapping[str, Field]] = {
    "HealthCheckRequest": {"service": (1, "string")},
    "HealthCheckResponse": {"status": (1, "int32")},
}
_ONE_OF = dict.fromkeys(("InferParameter", "ModelRepositoryParameter"), "parameter_choice")
"""Messages of which one field is set at a time, and what that choice is called."""

_TYPE_NAMES = "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 STRING"
DATA_TYPES = {name: number for number, name in enumerate(_TYPE_NAMES.split(), 1)}
"""Triton's numbers of the types in a model's configuration."""

SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
"""Of the health check's statuses."""

_Proto = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    name: getattr(_Proto, f"TYPE_{name.upper()}")
    for name in ("bool", "int32", "int64", "uint32", "uint64", "float", "double", "string", "bytes")
}


def message_classes(
    package: str,
    table: Mapping[str, Mapping[str, Field]],
    one_of: Mapping[str, str] = _ONE_OF,
    *,
    outside: Set[str] = frozenset(),
) -> dict[str, Any]:
    """The class of each message in `table`, by name.

    Of those in `one_of` one field is set at a time, but for fields that are `outside` of the choice.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"corelane/{package}.proto", package=package, syntax="proto3")
    for name, fields in table.items():
        message = file.message_type.add(name=name)
        if name in one_of:
            message.oneof_decl.add(name=one_of[name])
        for field, (number, kind) in fields.items():
            _add_field(message, package, field, number, kind)
            if name in one_of and field not in outside:
                message.field[-1].oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in table}


def _add_field(message: Any, package: str, name: str, number: int, kind: str) -> None:
    label = _Proto.LABEL_REPEATED if kind[0] in "*{" else _Proto.LABEL_OPTIONAL
    if kind[0] == "{":
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add_field(entry, package, "key", 1, "string")
        _add_field(entry, package, "value", 2, kind[1:-1])
        kind = f"{message.name}.{entry.name}"
    kind = kind.lstrip("*")
    field = message.field.add(name=name, number=number, label=label, type=_SCALARS.get(kind, _Proto.TYPE_MESSAGE))
    if kind not in _SCALARS:
        field.type_name = f".{package}.{kind}"


MESSAGES = message_classes(INFERENCE, _INFERENCE)
HEALTH_MESSAGES = message_classes(HEALTH, _HEALTH)
