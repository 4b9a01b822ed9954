"""The HTTP surface of a live server: the Open Inference Protocol, the typed protocol, health and metrics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

import corelane
from corelane.model.package import ModelPackage
from tests.serve.live import LiveServer, ask, serving, tensor
from tests.serve.packages import image_package, mixed_package, numeric_package

ROWS = [[1.0, 2.0, 3.0, 4.0], [0.5, -1.0, 0.0, 2.0]]
EXTENSIONS = ["binary_tensor_data", "model_configuration", "statistics", "model_repository"]
MATRIX = tensor("features", [value for row in ROWS for value in row], [2, 4], "FP32")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    home = tmp_path_factory.mktemp("packages")
    return (numeric_package(home), mixed_package(home, "mixed.v-2"), image_package(home))


@pytest.fixture(scope="module")
def server(packages: tuple[Path, ...]) -> Iterator[LiveServer]:
    with serving(*packages) as live:
        yield live


def test_the_server_describes_itself(server: LiveServer) -> None:
    """`/v2`, with and without a slash, names the server, its version and its extensions."""
    expected = {"name": "corelane", "version": corelane.__version__, "extensions": EXTENSIONS}
    assert server.ask("GET", "/v2").json == expected
    assert server.ask("GET", "/v2/").json == expected


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/models/m/ready"])
def test_a_running_server_is_live_and_ready(server: LiveServer, path: str) -> None:
    """Liveness, readiness and each model's readiness answer 200 with a small JSON body."""
    reply = server.ask("GET", path)
    assert reply.status == 200
    assert True in reply.json.values()


@pytest.mark.parametrize("base", ["/v2/models/m", "/v2/models/m/versions/1"])
def test_metadata_and_inference_with_and_without_version(
    server: LiveServer, packages: tuple[Path, ...], base: str
) -> None:
    """Both forms of a model's path answer metadata, readiness and inference; the answers equal the offline ones."""
    assert server.ask("GET", base).json["outputs"][0] == {"name": "label", "datatype": "INT64", "shape": [-1]}
    assert server.ask("GET", f"{base}/ready").json == {"name": "m", "ready": True}
    reply = server.ask("POST", f"{base}/infer", {"id": "42", "inputs": [MATRIX]})
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert (reply.json["model_name"], reply.json["model_version"], reply.json["id"]) == ("m", "1", "42")
    with ModelPackage.load(packages[0]).predictor() as predictor:
        expected = predictor.predict_matrix(np.array(ROWS))
    label, probabilities = reply.json["outputs"]
    assert label["data"] == expected["label"].tolist()
    np.testing.assert_allclose(probabilities["data"], expected["probabilities"].ravel(), atol=1e-6)
    assert probabilities["shape"] == [2, 3]


def test_the_typed_protocol_answers_the_same(server: LiveServer) -> None:
    """Rows as records get the label and the probabilities that the tensor protocol gives."""
    rows = [dict(zip(("x0", "x1", "x2", "x3"), row, strict=True)) for row in ROWS]
    reply = server.ask("POST", "/v1/models/m:predict", {"rows": rows})
    outputs = server.ask("POST", "/v2/models/m/infer", {"inputs": [MATRIX]}).json["outputs"]
    assert reply.status == 200
    assert (reply.json["model"], reply.json["version"]) == ("m", 1)
    assert [one["label"] for one in reply.json["predictions"]] == outputs[0]["data"]
    flat = [chance for one in reply.json["predictions"] for chance in one["probabilities"].values()]
    np.testing.assert_allclose(flat, outputs[1]["data"], atol=1e-6)
    assert list(reply.json["predictions"][0]["probabilities"]) == ["0", "1", "2"]


def test_missing_values_and_unseen_categories_are_answered(server: LiveServer) -> None:
    """Null where the column allows it, and a category never seen, get an answer in both protocols."""
    rows = [{"age": 30, "weight": None, "colour": "mauve"}, {"age": 0, "weight": 1, "colour": None}]
    typed = server.ask("POST", "/v1/models/mixed.v-2:predict", {"rows": rows})
    assert typed.status == 200
    inputs = [
        tensor("age", [30, 0], [2]),
        tensor("weight", [None, 1], [2]),
        tensor("colour", ["mauve", None], [2], "BYTES"),
    ]
    oip = server.ask("POST", "/v2/models/mixed.v-2/infer", {"inputs": inputs})
    np.testing.assert_allclose(oip.json["outputs"][0]["data"], [one["value"] for one in typed.json["predictions"]])


def test_quoted_names_are_names(server: LiveServer) -> None:
    """A client that percent-quotes the model's name reaches the same model."""
    name = "".join(f"%{ord(letter):02X}" for letter in "mixed.v-2")
    assert server.ask("GET", f"/v2/models/{name}").json["name"] == "mixed.v-2"


BAD_PATHS = {
    "unknown model": "/v2/models/nobody/infer",
    "unknown version": "/v2/models/m/versions/2/infer",
    "odd version": "/v2/models/m/versions/01/infer",
    "huge version": "/v2/models/m/versions/99999999999999999999/infer",
    "dots": "/v2/models/../m/infer",
    "quoted slash": "/v2/models/%2e%2e%2fm/infer",
    "double quoted": "/v2/models/%252e/infer",
    "null byte": "/v2/models/m%00/infer",
    "line break": "/v2/models/m%0d%0aX-Evil:%201/infer",
    "bad UTF-8": "/v2/models/%ff%fe/infer",
    "ten kilobytes": "/v2/models/" + "m" * 10_000 + "/infer",
    "look-alike": "/v2/models/" + quote("m\u0443") + "/infer",
    "unknown typed model": "/v1/models/nobody:predict",
    "unknown verb": "/v1/models/m:explain",
    "just the folder": "/v2/models",
}


@pytest.mark.parametrize("path", BAD_PATHS.values(), ids=BAD_PATHS.keys())
def test_what_is_not_served_is_404(server: LiveServer, path: str) -> None:
    """Unknown and malformed names, versions and paths are 404 with a short message that repeats no file's path."""
    reply = server.ask("POST", path, {"inputs": [MATRIX]})
    assert reply.status == 404
    assert len(reply.json["error"]) < 300
    assert "x-evil" not in reply.headers


BAD_VALUES: dict[str, tuple[str, Any]] = {
    "missing where it must not be": ("x0 must have a value", [tensor("features", [None, 1, 2, 3], [1, 4])]),
    "out of bounds": (
        "age",
        [tensor("age", [101], [1]), tensor("weight", [1], [1]), tensor("colour", ["red"], [1], "BYTES")],
    ),
    "wrong dtype": ("must be numbers", [tensor("features", ["a", "b", "c", "d"], [1, 4])]),
}


@pytest.mark.parametrize(("says", "inputs"), BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_values_the_pipeline_refuses_are_400(server: LiveServer, says: str, inputs: list[Any]) -> None:
    """A value the schema does not allow is refused with the column's name, as it would be in training."""
    model = "m" if inputs[0]["name"] == "features" else "mixed.v-2"
    reply = server.ask("POST", f"/v2/models/{model}/infer", {"inputs": inputs})
    assert reply.status == 400
    assert says in reply.json["error"]


def test_enormous_numbers_get_an_answer_or_a_400(server: LiveServer) -> None:
    """The largest float64 is no crash: the reply is finite JSON or a refusal."""
    reply = server.ask("POST", "/v2/models/m/infer", {"inputs": [tensor("features", [1.7e308] * 4, [1, 4])]})
    assert reply.status in (200, 400)
    assert b"null" not in reply.body


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"inputs": NaN}'])
def test_malformed_json_is_400(server: LiveServer, body: bytes) -> None:
    """Empty, cut, deep or wrongly encoded bodies are told so in both protocols."""
    for path in ("/v2/models/m/infer", "/v1/models/m:predict"):
        assert server.ask("POST", path, body).status == 400


def test_methods_are_checked(server: LiveServer) -> None:
    """Asking an inference path with GET, or a metadata path with POST, names the method that is allowed."""
    for method, path, allowed in (("GET", "/v2/models/m/infer", "POST"), ("POST", "/v2/models/m", "GET")):
        reply = server.ask(method, path)
        assert (reply.status, reply.headers["allow"]) == (405, allowed)


def test_metrics_count_requests_by_model_and_status(server: LiveServer) -> None:
    """`/metrics` tells requests, refusals and batches in Prometheus' format; unknown models make no series."""
    server.ask("POST", "/v2/models/m/infer", {"inputs": [MATRIX]})
    server.ask("POST", "/v2/models/m/infer", b"{")
    server.ask("POST", "/v2/models/unheard-of/infer", b"{}")
    reply = server.ask("GET", "/metrics")
    text = reply.body.decode()
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'corelane_inference_requests_total{model="m",protocol="http",status="200"}' in text
    assert 'corelane_inference_requests_total{model="m",protocol="http",status="400"}' in text
    assert 'corelane_inference_rejected_requests_total{reason="request_invalid"}' in text
    assert "corelane_inference_batch_rows_sum" in text
    assert "unheard-of" not in text


def test_many_requests_share_one_connection(server: LiveServer) -> None:
    """A kept connection serves requests to several models, refusals among them, in order."""
    connection = server.connect()
    for _ in range(3):
        assert ask(connection, "POST", "/v2/models/m/infer", {"inputs": [MATRIX]}).status == 200
        assert ask(connection, "POST", "/v2/models/m/infer", {"inputs": []}).status == 400
        assert ask(connection, "GET", "/v2/models/picture").json["name"] == "picture"
    connection.close()


@pytest.mark.parametrize("header", ["0", "-5", "1.5", "soon", "3600001", "9" * 30, "0000000001" + "9" * 400])
def test_a_time_limit_that_is_none_is_refused(server: LiveServer, header: str) -> None:
    """The header is a whole number of milliseconds, the parameter one of microseconds."""
    reply = server.ask("POST", "/v2/models/m/infer", {"inputs": [MATRIX]}, {"Corelane-Timeout-Ms": header})
    assert (reply.status, "whole number of milliseconds" in reply.json["error"]) == (400, True)


@pytest.mark.parametrize("value", [0, -1, 1.5, "100", True, None])
def test_a_timeout_that_is_none_is_refused(server: LiveServer, value: Any) -> None:
    """Nothing is guessed of another type."""
    reply = server.ask("POST", "/v2/models/m/infer", {"inputs": [MATRIX], "parameters": {"timeout": value}})
    assert reply.status == 400


def test_a_deadline_that_passes_is_a_504_and_one_that_does_not_is_an_answer(server: LiveServer) -> None:
    """A microsecond is over when the request is read; a minute is not. A header can only shorten the server's limit."""
    body = {"inputs": [MATRIX]}
    late = server.ask("POST", "/v2/models/m/infer", {**body, "parameters": {"timeout": 1}})
    assert (late.status, "deadline" in late.json["error"]) == (504, True)
    for headers in ({"Corelane-Timeout-Ms": "3600000"}, {}):
        limited = {**body, "parameters": {"timeout": 60_000_000}}
        assert server.ask("POST", "/v2/models/m/infer", limited, headers).status == 200


@pytest.mark.parametrize("base", ["/v2/models/m", "/v2/models/m/versions/1"])
def test_the_configuration_is_what_tritons_clients_read(server: LiveServer, base: str) -> None:
    """Shapes without the rows; at least one dimension each."""
    config = server.ask("GET", f"{base}/config").json
    assert (config["name"], config["max_batch_size"]) == ("m", 32)
    assert config["input"] == [{"name": "features", "data_type": "TYPE_FP64", "dims": [4]}]
    assert [output["dims"] for output in config["output"]] == [[1], [3]]


def test_statistics_count_what_was_asked(server: LiveServer) -> None:
    """Rows, runs and requests of one model, or of all."""

    def of(stats: list[dict[str, Any]]) -> tuple[int, int]:
        one = next(each for each in stats if each["name"] == "m")
        return one["inference_count"], one["inference_stats"]["success"]["count"]

    before = of(server.ask("GET", "/v2/models/m/stats").json["model_stats"])
    assert server.ask("POST", "/v2/models/m/infer", {"inputs": [MATRIX]}).status == 200
    after = of(server.ask("GET", "/v2/models/stats").json["model_stats"])
    assert (after[0] - before[0], after[1] - before[1]) == (2, 1)


def test_the_repository_lists_what_is_served(server: LiveServer) -> None:
    """With an empty body, an empty object, and of ready models alone; anything else is refused."""
    for body in (b"", b"{}", b'{"ready": true}'):
        index = server.ask("POST", "/v2/repository/index", body).json
        assert {"m", "mixed.v-2"} < {one["name"] for one in index}
        assert all(one["state"] == "READY" for one in index)
    for body in (b"[]", b"{", b'{"ready": 1}'):
        assert server.ask("POST", "/v2/repository/index", body).status == 400


@pytest.mark.parametrize("path", ["/v2/models/m/infer", "/v1/models/m:predict"])
def test_a_receipt_says_where_the_time_went(server: LiveServer, path: str) -> None:
    """For whoever asks, and for nobody else; of the whole request where it was run in parts."""
    row = {f"x{index}": 1.0 for index in range(4)}
    body: dict[str, Any] = {"rows": [row]} if "predict" in path else {"inputs": [MATRIX]}
    assert "server-timing" not in server.ask("POST", path, body).headers
    timing = server.ask("POST", path, body, {"Corelane-Receipt": "1"}).headers["server-timing"]
    times = {part.split(";")[0].strip(): float(part.split("dur=")[1]) for part in timing.split(",")[:3]}
    assert set(times) == {"queue", "compute", "serialize"}
    assert all(0.0 <= each < 10_000 for each in times.values())
    assert 'batch;desc="' in timing
    assert "onnxruntime" in timing.lower() or "ONNX Runtime" in timing


def test_a_receipt_is_a_parameter_too(server: LiveServer) -> None:
    """As the protocol has it; a hundred rows are four runs, the largest of thirty-two."""
    rows = tensor("features", [1.0] * 400, [100, 4], "FP32")
    reply = server.ask("POST", "/v2/models/m/infer", {"inputs": [rows], "parameters": {"receipt": True}}).json
    told = reply["parameters"]
    assert set(told) == {"queue_us", "compute_us", "batch_rows", "plan"}
    assert told["batch_rows"] in {32, 100}
    assert "parameters" not in server.ask("POST", "/v2/models/m/infer", {"inputs": [rows]}).json
