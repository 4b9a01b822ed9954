"""The OpenAPI document and the page to try models: what they say of a model is what the model does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pyarrow as pa
import pytest

from corelane.data.config import PipelineConfig
from corelane.data.pipeline import Pipeline
from corelane.data.schema import Column, Schema
from corelane.model.package import ModelPackage
from corelane.serve.http import RECEIPT_HEADER
from corelane.serve.openapi import document
from corelane.serve.schemas import example_rows
from tests.serve.live import LiveServer, serving
from tests.serve.packages import (
    image_graph,
    image_package,
    labels_package,
    mixed_package,
    mlp_graph,
    numeric_package,
    publish,
)

MODELS = ("m", "mixed", "labels", "picture", "photo", "ruled")


RULED = {"size": "M", "clipped": 5, "dropped": None, "code": None, "when": None, "kind": None}


def ruled_package(directory: Path) -> Path:
    """Columns with every rule that a schema can tell: declared categories, clipped and missing bounds, a date."""
    schema = Schema(
        (
            Column("size", "categorical", nullable=False, categories=("S", "M", "L")),
            Column("clipped", "numeric", nullable=False, minimum=5.0, maximum=9.0, outside="clip"),
            Column("dropped", "numeric", maximum=-3.0, outside="missing"),
            Column("code", "categorical", pattern="[A-Z]{2}"),
            Column("when", "date"),
            Column("kind", "categorical", categories=("a", "b"), unreadable="missing"),
        ),
        (Column("y", "numeric", nullable=False),),
        "regression",
    )
    rows = pa.RecordBatch.from_arrays(
        [
            pa.array(["S", "M", "L"] * 20),
            pa.array([5.0, 6.0, 9.0] * 20),
            pa.array([-3.0, None, -5.0] * 20),
            pa.array(["AB", "CD", None] * 20),
            pa.array([f"2024-02-{day:02}" for day in range(1, 21)] * 3),
            pa.array(["a", "b"] * 30),
            pa.array([float(row) for row in range(60)]),
        ],
        names=["size", "clipped", "dropped", "code", "when", "kind", "y"],
    )
    checked = schema.check(rows, needs_target=True).rows
    width = Pipeline.build(schema, PipelineConfig()).fit([checked]).outputs["features"].shape[0]
    return publish(directory, "ruled", schema, rows, mlp_graph(width, (8,), 1))


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    home = tmp_path_factory.mktemp("packages")
    photo = image_package(home, "photo", shape=(8, 8, 3), encoded=True)
    return (
        numeric_package(home),
        mixed_package(home),
        labels_package(home),
        image_package(home),
        photo,
        ruled_package(home),
    )


@pytest.fixture(scope="module")
def server(packages: tuple[Path, ...]) -> Iterator[LiveServer]:
    with serving(*packages) as live:
        yield live


@pytest.fixture(scope="module")
def told(server: LiveServer) -> Any:
    return server.ask("GET", "/openapi.json").json


def row_of(told: Any, model: str) -> Any:
    """The schema of a record of `model`."""
    body = told["paths"][f"/v1/models/{model}:predict"]["post"]["requestBody"]["content"]["application/json"]
    return body["schema"]["properties"]["rows"]["items"]


def column_of(told: Any, model: str, name: str) -> Any:
    return row_of(told, model)["properties"][name]


def test_every_path_is_told_and_answered(server: LiveServer, told: Any) -> None:
    """All routes of the server are in the document, and each GET of it answers what its schema says."""
    assert told["openapi"] == "3.1.0"
    fixed = {"/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/stats", "/v2/repository/index", "/metrics"}
    own = {
        f"/v2/models/{model}{version}{path}"
        for model in MODELS
        for version in ("", "/versions/1")
        for path in ("", "/ready", "/config", "/stats", "/slowest", "/infer")
    }
    predict = {f"/v1/models/{model}:predict" for model in MODELS}
    control = {f"/v2/repository/models/{{model}}/{action}" for action in ("load", "unload")}
    assert set(told["paths"]) == fixed | own | predict | control | {"/openapi.json", "/docs"}
    for path, operations in told["paths"].items():
        if "get" not in operations:
            continue
        reply = server.ask("GET", path)
        [(media, content)] = operations["get"]["responses"]["200"]["content"].items()
        assert (reply.status, reply.headers["content-type"]) == (200, media)
        if media == "application/json":
            check(told, content["schema"], reply.json)


def check(told: Any, schema: Any, value: Any) -> None:
    """Raise unless `value` is what `schema` of the document says."""
    jsonschema_rs.validate({"components": told["components"], **schema}, value)


@pytest.mark.parametrize("model", MODELS)
def test_examples_are_answered_as_the_schemas_say(server: LiveServer, told: Any, model: str) -> None:
    """A record, a batch of records and an inference: each example is legal by its schema, and so is its answer."""
    predict = told["paths"][f"/v1/models/{model}:predict"]["post"]
    content = predict["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        check(told, content["schema"], example["value"])
        reply = server.ask("POST", f"/v1/models/{model}:predict", example["value"])
        assert reply.status == 200, reply.body
        check(told, predict["responses"]["200"]["content"]["application/json"]["schema"], reply.json)
        assert len(reply.json["predictions"]) == len(example["value"]["rows"])
    infer = told["paths"][f"/v2/models/{model}/infer"]["post"]
    content = infer["requestBody"]["content"]["application/json"]
    check(told, content["schema"], content["example"])
    reply = server.ask("POST", f"/v2/models/{model}/infer", content["example"])
    assert reply.status == 200, reply.body
    check(told, infer["responses"]["200"]["content"]["application/json"]["schema"], reply.json)


def test_columns_are_told_with_their_rules(told: Any) -> None:
    """Type, null, bounds, categories, patterns; a bound that refuses nothing is words only."""
    assert column_of(told, "mixed", "age") == {"type": "number", "minimum": 0.0, "maximum": 100.0}
    assert column_of(told, "mixed", "weight") == {"type": ["number", "null"]}
    assert column_of(told, "mixed", "colour")["examples"] == ["green", "red"]
    assert column_of(told, "ruled", "size")["enum"] == ["S", "M", "L"]
    assert "nearest" in column_of(told, "ruled", "clipped")["description"]
    assert "maximum" not in column_of(told, "ruled", "clipped")
    assert "missing" in column_of(told, "ruled", "dropped")["description"]
    assert "[A-Z]{2}" in column_of(told, "ruled", "code")["description"]
    assert "ISO 8601" in column_of(told, "ruled", "when")["description"]
    assert column_of(told, "photo", "image")["contentEncoding"] == "base64"
    assert len(column_of(told, "picture", "image")["anyOf"]) == 2
    assert row_of(told, "mixed")["required"] == ["age", "weight", "colour"]


@pytest.mark.parametrize(
    ("model", "row"),
    [
        ("mixed", {"age": 101, "weight": 1, "colour": "red"}),
        ("mixed", {"age": None, "weight": 1, "colour": "red"}),
        ("mixed", {"age": 1, "weight": "1", "colour": "red"}),
        ("mixed", {"age": 1, "weight": 1}),
        ("mixed", {"age": 1, "weight": 1, "colour": "red", "more": 1}),
        ("mixed", {"age": 1, "weight": 1, "colour": "x" * 1001}),
        ("ruled", {**RULED, "size": "XL"}),
    ],
)
def test_what_a_schema_refuses_the_server_refuses(server: LiveServer, told: Any, model: str, row: Any) -> None:
    """A client that checks by the document refuses nothing that would have been answered."""
    with pytest.raises(jsonschema_rs.ValidationError):
        check(told, row_of(told, model), row)
    assert server.ask("POST", f"/v1/models/{model}:predict", {"rows": [row]}).status == 400


@pytest.mark.parametrize(
    "change", [{"clipped": 100}, {"dropped": 7}, {"kind": "other"}, {"kind": "x" * 2000}, {"code": "AB"}], ids=str
)
def test_what_the_server_answers_a_schema_lets_through(server: LiveServer, told: Any, change: dict[str, Any]) -> None:
    """Rules that clip a value or take it as missing refuse nothing."""
    row = {**RULED, **change}
    check(told, row_of(told, "ruled"), row)
    assert server.ask("POST", "/v1/models/ruled:predict", {"rows": [row]}).status == 200


def test_every_operation_has_a_name_of_its_own(told: Any) -> None:
    """Generated clients make functions of them."""
    names = [operation["operationId"] for path in told["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)


def test_headers_are_called_as_the_server_reads_them(told: Any) -> None:
    """One name in both places."""
    assert told["components"]["parameters"]["Receipt"]["name"] == RECEIPT_HEADER


def test_a_large_example_is_left_out_for_a_small_one(tmp_path: Path) -> None:
    """The document of a model of large images stays small."""
    model = ModelPackage.load(image_package(tmp_path, "large", shape=(256, 256, 3)))
    [row] = example_rows(model, 1)
    assert len(row["image"]) < 10_000
    assert len(str(document([model]))) < 100_000


def test_a_record_that_is_large_however_it_is_made_has_no_example(tmp_path: Path) -> None:
    """The document says its schema only."""
    shape = (3, 160, 160)
    values = np.random.default_rng(5).standard_normal((20, *shape)).astype(np.float32)
    schema = Schema(
        (Column("signal", "tensor", shape=shape, nullable=False),),
        (Column("y", "categorical", nullable=False),),
        "multi_class",
    )
    columns = [pa.FixedShapeTensorArray.from_numpy_ndarray(values), pa.array(["cat", "dog"] * 10)]
    rows = pa.RecordBatch.from_arrays(columns, names=["signal", "y"])
    model = ModelPackage.load(publish(tmp_path, "signal", schema, rows, image_graph(shape, 2, name="tensor")))
    assert example_rows(model, 1) == []
    text = json.dumps(document([model]))
    assert len(text) < 100_000
    assert '"minItems": 160' in text


def test_the_page_needs_nothing_from_elsewhere(server: LiveServer) -> None:
    """No address in it leads away, and the browser is told to fetch from this server alone."""
    reply = server.ask("GET", "/docs")
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    page = reply.body.decode()
    assert not re.findall(r"https?:|//[a-z]|@import|url\(", page.replace("// ", ""))
    assert not re.findall(r"<(?:link|img|script|iframe)\b[^>]*\b(?:src|href)=", page)
