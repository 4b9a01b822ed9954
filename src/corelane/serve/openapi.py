"""The OpenAPI 3.1 document of a server: every path that it answers, with the schemas and examples of its models.

Each model has paths of its own, since each takes other records. The page at `/docs` and any client generator read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from corelane import __version__
from corelane.core.types import JsonObject
from corelane.model.package import ModelPackage
from corelane.observe.metrics import CONTENT_TYPE
from corelane.serve.oip import MAX_ID
from corelane.serve.schemas import example_rows, example_tensors, prediction_schema, row_schema
from corelane.serve.values import MAX_RANK
from corelane.web.tensors import HEADER, TIMEOUT_HEADER, TYPES

EXAMPLE_ROWS = 3  # of the example of a batch
DATATYPES = [*TYPES, "BYTES"]

_JSON, _OCTETS = "application/json", "application/octet-stream"
_REFUSALS = {
    "400": "The request is malformed or does not fit the model.",
    "401": "This server asks for a token, and got none that it knows.",
    "403": "The token does not allow this, or the server does not do it.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "The body has another type or packing than this server reads.",
    "429": "The queue is full; try again after the time in Retry-After.",
    "500": "The server failed; its log has more under the id in the message.",
    "503": "The server is loading, stopping or without room.",
    "504": "The answer was not ready before the deadline.",
}


def document(models: Iterable[ModelPackage]) -> JsonObject:
    """The document of a server of `models`."""
    paths: JsonObject = dict(_FIXED)
    for model in models:
        paths |= _of_model(model)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Corelane",
            "version": __version__,
            "description": "Predictions of the models of this server, on records and, in the Open Inference Protocol"
            " v2, on tensors.",
        },
        "paths": paths,
        "security": [{}, {"token": []}],
        "components": {
            "schemas": _SCHEMAS,
            "responses": _RESPONSES,
            "parameters": _PARAMETERS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _of_model(model: ModelPackage) -> JsonObject:
    rows = example_rows(model, EXAMPLE_ROWS)
    paths: JsonObject = {f"/v1/models/{model.name}:predict": {"post": _predict(model, rows)}}
    versioned = f"/v2/models/{model.name}/versions/{model.version}"
    for base, prefix in ((f"/v2/models/{model.name}", ""), (versioned, "version_")):
        paths |= _of_base(model, rows, base, prefix)
    return paths


def _of_base(model: ModelPackage, rows: Sequence[JsonObject], base: str, prefix: str) -> JsonObject:
    """The protocol's paths of a model under `base`; their operations' names begin with `prefix`."""

    def get(path: str, summary: str, schema: str, *, has_unready: bool = False) -> JsonObject:
        operation = f"{prefix}{path}_{model.name}"
        return _get(operation, summary, _ref(schema), tag=model.name, has_unready=has_unready)

    return {
        base: get("metadata", "Its tensors.", "ModelMetadata"),
        f"{base}/ready": get("ready", "Whether it answers.", "ModelReady", has_unready=True),
        f"{base}/config": get("config", "Its configuration as Triton has it.", "ModelConfiguration"),
        f"{base}/stats": get("stats", "Counts and sums, as Triton has them.", "Statistics"),
        f"{base}/slowest": get("slowest", "Its slowest requests of the last minutes.", "Slowest"),
        f"{base}/infer": {"post": _infer(model, rows, f"{prefix}infer_{model.name}")},
    }


def _predict(model: ModelPackage, rows: Sequence[JsonObject]) -> JsonObject:
    body = _object({"rows": {"type": "array", "minItems": 1, "items": row_schema(model)}})
    answer = _object(
        {
            "model": {"const": model.name},
            "version": {"const": model.version},
            "predictions": {"type": "array", "minItems": 1, "items": prediction_schema(model)},
        }
    )
    examples = {
        "record": {"summary": "one record", "value": {"rows": rows[:1]}},
        "batch": {"summary": "several records", "value": {"rows": rows}},
    }
    content = {_JSON: {"schema": body, **({"examples": examples} if rows else {})}}
    return _post(f"predict_{model.name}", "Predict records.", content, {_JSON: {"schema": answer}}, tag=model.name)


def _infer(model: ModelPackage, rows: Sequence[JsonObject], operation: str) -> JsonObject:
    example = {"example": {"inputs": example_tensors(model, rows[:1])}} if rows else {}
    content = {_JSON: {"schema": _infer_request(model), **example}, _OCTETS: {"schema": {}}}
    answer = {_JSON: {"schema": _ref("InferResponse")}, _OCTETS: {"schema": {}}}
    told = "Infer on tensors, in JSON or as bytes behind it (the protocol's binary tensor extension)."
    post = _post(operation, told, content, answer, tag=model.name)
    post["parameters"].append({"$ref": "#/components/parameters/JsonLength"})
    return post


def _infer_request(model: ModelPackage) -> JsonObject:
    signature = model.signature
    matrix = [] if signature.matrix is None else [signature.matrix.name]
    given = {"enum": [*matrix, *(tensor.name for tensor in signature.inputs)]}
    wanted = {"enum": [tensor.name for tensor in signature.outputs]}
    tensor = {**_TENSOR, "name": given, "data": {"type": "array"}, "parameters": _PARAMETERS_OF_TENSORS}
    output = {"name": wanted, "parameters": _PARAMETERS_OF_TENSORS}
    return _object(
        {
            "id": {"type": "string", "maxLength": MAX_ID},
            "parameters": _PARAMETERS_OF_TENSORS,
            "inputs": _list(_object(tensor, optional=["parameters", "data"], is_open=True), 1),
            "outputs": _list(_object(output, optional=["parameters"], is_open=True)),
        },
        optional=["id", "parameters", "outputs"],
        is_open=True,
    )


# --- pieces of a document ---------------------------------------------------------------------------------------------


def _ref(name: str) -> JsonObject:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: JsonObject, *, optional: Sequence[str] = (), is_open: bool = False) -> JsonObject:
    """All of `properties` are required but `optional` ones; others are refused unless it `is_open`."""
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
        **({} if is_open else {"additionalProperties": False}),
    }


def _list(items: JsonObject, at_least: int = 0) -> JsonObject:
    return {"type": "array", "items": items, **({"minItems": at_least} if at_least else {})}


def _answers(content: JsonObject, statuses: Iterable[str]) -> JsonObject:
    refusals = {status: {"$ref": f"#/components/responses/Status{status}"} for status in statuses}
    return {"200": {"description": "The answer.", "content": content}, **refusals}


def _get(
    operation: str,
    summary: str,
    schema: JsonObject,
    *,
    tag: str = "server",
    media: str = _JSON,
    has_unready: bool = False,
) -> JsonObject:
    content = {media: {"schema": schema}}
    responses = _answers(content, ["401", "403", "500"])
    if has_unready:
        responses["503"] = {"description": "It does not answer requests now.", "content": content}
    return {"get": {"operationId": operation, "summary": summary, "tags": [tag], "responses": responses}}


def _post(operation: str, summary: str, body: JsonObject, answer: JsonObject, *, tag: str) -> JsonObject:
    return {
        "operationId": operation,
        "summary": summary,
        "tags": [tag],
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in ("Timeout", "Receipt")],
        "requestBody": {"required": True, "content": body},
        "responses": _answers(answer, _REFUSALS),
    }


def _index() -> JsonObject:
    body = {_JSON: {"schema": _object({"ready": {"type": "boolean"}}, optional=["ready"], is_open=True)}}
    post = _post("index", "What is served.", body, {_JSON: {"schema": _list(_ref("ModelIndex"))}}, tag="server")
    post["parameters"] = []
    post["requestBody"]["required"] = False
    return post


def _control(action: str) -> JsonObject:
    """Loading or unloading a model, which only a server that was started for it does."""
    body = {_JSON: {"schema": _object({"parameters": {"type": "object"}}, optional=["parameters"], is_open=True)}}
    post = _post(action, f"{action.capitalize()} a model of the registry.", body, {_JSON: {"schema": {}}}, tag="server")
    post["parameters"] = [{"name": "model", "in": "path", "required": True, "schema": _TEXT}]
    post["requestBody"]["required"] = False
    post["responses"]["404"] = {"$ref": "#/components/responses/Status404"}
    return {"post": post}


def _durations(*names: str) -> JsonObject:
    count = {"type": "integer", "minimum": 0}
    return _object(dict.fromkeys(names, _object({"count": count, "ns": count})))


_SLOW = ("total_us", "rows", "bytes", "queue_us", "compute_us", "batch_rows")
_TEXT: JsonObject = {"type": "string"}
_COUNT: JsonObject = {"type": "integer", "minimum": 0}
_PARAMETERS_OF_TENSORS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_SHAPE = {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": MAX_RANK}
_TENSOR = {"name": _TEXT, "shape": _SHAPE, "datatype": {"enum": DATATYPES}}
_DESCRIBED = _object({"name": _TEXT, "datatype": {"enum": DATATYPES}, "shape": _list({"type": "integer"})})
_CONFIGURED = _object({"name": _TEXT, "data_type": _TEXT, "dims": _list({"type": "integer"})})

_SCHEMAS: JsonObject = {
    "Error": _object({"error": _TEXT}),
    "ServerMetadata": _object({"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)}),
    "Live": _object({"live": {"const": True}}),
    "Ready": _object({"ready": {"type": "boolean"}}),
    "ModelReady": _object({"name": _TEXT, "ready": {"type": "boolean"}}, is_open=True),
    "Slowest": _object(
        {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "slowest": _list(_object({**dict.fromkeys(_SLOW, _COUNT), "age_s": {"type": "number"}, "plan": _TEXT})),
        }
    ),
    "ModelMetadata": _object(
        {
            "name": _TEXT,
            "versions": _list(_TEXT),
            "platform": _TEXT,
            "inputs": _list(_DESCRIBED, 1),
            "outputs": _list(_DESCRIBED, 1),
        },
        is_open=True,
    ),
    "ModelConfiguration": _object(
        {
            "name": _TEXT,
            "platform": _TEXT,
            "backend": _TEXT,
            "max_batch_size": _COUNT,
            "input": _list(_CONFIGURED, 1),
            "output": _list(_CONFIGURED, 1),
        },
        is_open=True,
    ),
    "Statistics": _object(
        {
            "model_stats": _list(
                _object(
                    {
                        "name": _TEXT,
                        "version": _TEXT,
                        "last_inference": _COUNT,
                        "inference_count": _COUNT,
                        "execution_count": _COUNT,
                        "inference_stats": _durations(
                            "success", "fail", "queue", "compute_input", "compute_infer", "compute_output"
                        ),
                        "batch_stats": _list({}),
                    },
                    is_open=True,
                )
            )
        }
    ),
    "ModelIndex": _object({"name": _TEXT, "version": _TEXT, "state": _TEXT, "reason": _TEXT}),
    "InferResponse": _object(
        {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "id": _TEXT,
            "parameters": _PARAMETERS_OF_TENSORS,
            "outputs": _list(
                _object(
                    {**_TENSOR, "data": {"type": "array"}, "parameters": _PARAMETERS_OF_TENSORS},
                    optional=["parameters", "data"],
                )
            ),
        },
        optional=["id", "parameters"],
    ),
}
_RESPONSES = {
    f"Status{status}": {"description": told, "content": {_JSON: {"schema": _ref("Error")}}}
    for status, told in {**_REFUSALS, "404": "There is no such model."}.items()
}
_PARAMETERS = {
    "Timeout": {
        "name": TIMEOUT_HEADER,
        "in": "header",
        "description": "Milliseconds from the request's arrival after which its answer is of no more use.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 3_600_000},
    },
    "Receipt": {
        "name": "corelane-receipt",
        "in": "header",
        "description": "With any value, the answer's header Server-Timing says where its time went.",
        "schema": {"type": "string"},
    },
    "JsonLength": {
        "name": HEADER,
        "in": "header",
        "description": "How many bytes of the body are JSON; tensors as bytes are behind them.",
        "schema": {"type": "integer", "minimum": 0},
    },
}
_METRICS = "All metrics of this server in Prometheus' format."
_FIXED: JsonObject = {
    "/v2": _get("server", "Name, version and extensions.", _ref("ServerMetadata")),
    "/v2/health/live": _get("live", "Whether the server runs.", _ref("Live")),
    "/v2/health/ready": _get("ready", "Whether all models answer.", _ref("Ready"), has_unready=True),
    "/v2/models/stats": _get("stats", "Counts and sums of all models.", _ref("Statistics")),
    "/v2/repository/index": {"post": _index()},
    "/v2/repository/models/{model}/load": _control("load"),
    "/v2/repository/models/{model}/unload": _control("unload"),
    "/metrics": _get("metrics", _METRICS, {"type": "string"}, media=CONTENT_TYPE),
    "/openapi.json": _get("openapi", "This document.", {"type": "object"}),
    "/docs": _get("docs", "A page to try the models.", {"type": "string"}, media="text/html; charset=utf-8"),
}
