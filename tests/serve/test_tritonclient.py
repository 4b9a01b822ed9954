"""Triton's own client, unmodified, against a live server: HTTP in JSON and bytes, packed and concurrent, and gRPC."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from tritonclient.utils import InferenceServerException

from tests.serve.live import LiveServer, serving
from tests.serve.packages import mixed_package, numeric_package

ROWS = np.array([[1.0, 2.0, 3.0, 4.0], [0.5, -1.0, 0.0, 2.0]])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    home = tmp_path_factory.mktemp("packages")
    with serving(numeric_package(home), mixed_package(home), grpc_port=0) as live:
        yield live


@pytest.fixture
def http(server: LiveServer) -> Iterator[Any]:
    with triton_http.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=4) as client:
        yield client


@pytest.fixture
def grpc(server: LiveServer) -> Iterator[Any]:
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        yield client


@pytest.fixture(scope="module")
def expected(server: LiveServer) -> dict[str, Any]:
    data = {"name": "features", "shape": [2, 4], "datatype": "FP64", "data": ROWS.ravel().tolist()}
    outputs = server.ask("POST", "/v2/models/m/infer", {"inputs": [data]}).json["outputs"]
    return {one["name"]: np.reshape(one["data"], one["shape"]) for one in outputs}


def same(result: Any, expected: dict[str, Any]) -> None:
    for name, values in expected.items():
        np.testing.assert_allclose(result.as_numpy(name), values, rtol=1e-6)


def http_input(*, binary: bool = True) -> list[Any]:
    given = triton_http.InferInput("features", [2, 4], "FP64")
    given.set_data_from_numpy(ROWS, binary_data=binary)
    return [given]


def grpc_input() -> list[Any]:
    given = triton_grpc.InferInput("features", [2, 4], "FP64")
    given.set_data_from_numpy(ROWS)
    return [given]


def test_http_tells_what_the_client_and_perf_analyzer_ask(http: Any) -> None:
    """Health, metadata, configuration, statistics and the index, by the client's own methods."""
    assert http.is_server_live()
    assert http.is_server_ready()
    assert http.is_model_ready("m")
    assert not http.is_model_ready("nothing")
    assert {"model_configuration", "statistics"} <= set(http.get_server_metadata()["extensions"])
    metadata, config = http.get_model_metadata("m", model_version="1"), http.get_model_config("m")
    assert metadata["inputs"] == [{"name": "features", "datatype": "FP64", "shape": [-1, 4]}]
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (32, [4])
    http.infer("m", http_input())
    [stats] = http.get_inference_statistics("m")["model_stats"]
    assert stats["inference_stats"]["success"]["count"] >= 1
    assert {model["name"] for model in http.get_model_repository_index()} == {"m", "mixed"}


@pytest.mark.parametrize("binary_in", [True, False], ids=["bytes in", "JSON in"])
@pytest.mark.parametrize("binary_out", [True, False], ids=["bytes out", "JSON out"])
@pytest.mark.parametrize("packing", [None, "gzip", "deflate"])
def test_http_inference(http: Any, expected: dict[str, Any], binary_in: bool, binary_out: bool, packing: Any) -> None:
    """Every form of tensor and of packing that the client knows, with an id and named outputs."""
    outputs = [triton_http.InferRequestedOutput(name, binary_data=binary_out) for name in expected]
    result = http.infer(
        "m",
        http_input(binary=binary_in),
        outputs=outputs,
        request_id="7",
        request_compression_algorithm=packing,
        response_compression_algorithm=packing,
    )
    assert result.get_response()["id"] == "7"
    same(result, expected)


def test_http_without_outputs_and_concurrently(http: Any, expected: dict[str, Any]) -> None:
    """All outputs come back; twenty requests at once are each answered."""
    same(http.infer("m", http_input()), expected)
    waiting = [http.async_infer("m", http_input()) for _ in range(20)]
    for one in waiting:
        same(one.get_result(timeout=20), expected)


def test_http_texts(http: Any) -> None:
    """BYTES in bytes and in JSON are one answer."""
    values = []
    for binary in (True, False):
        inputs = []
        for name, datatype, data in (
            ("age", "FP64", np.array([30.0])),
            ("weight", "FP32", np.array([70.0], np.float32)),
            ("colour", "BYTES", np.array([b"red"], object)),
        ):
            given = triton_http.InferInput(name, [1], datatype)
            given.set_data_from_numpy(data, binary_data=binary)
            inputs.append(given)
        values.append(http.infer("mixed", inputs).as_numpy("value").tolist())
    assert values[0] == values[1]


def test_http_refusals_reach_the_client_with_their_reason(http: Any) -> None:
    """What must be, by the client's own error."""
    wrong = triton_http.InferInput("features", [2, 3], "FP64")
    wrong.set_data_from_numpy(ROWS[:, :3].copy())
    with pytest.raises(InferenceServerException, match="shape of 'features' must be"):
        http.infer("m", [wrong])
    with pytest.raises(InferenceServerException, match="the model must be one of"):
        http.infer("nothing", http_input())


def test_http_in_an_event_loop(server: LiveServer, expected: dict[str, Any]) -> None:
    """The client's asyncio form."""

    async def ask() -> None:
        async with triton_http_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            assert await client.is_server_ready()
            for result in await asyncio.gather(*(client.infer("m", http_input()) for _ in range(8))):
                same(result, expected)

    asyncio.run(ask())


def test_grpc_tells_what_the_client_and_perf_analyzer_ask(grpc: Any) -> None:
    """The same by gRPC; `ModelConfig` has its nested `config`."""
    assert grpc.is_server_live()
    assert grpc.is_server_ready()
    assert grpc.is_model_ready("m", "1")
    assert {"model_configuration", "statistics"} <= set(grpc.get_server_metadata().extensions)
    assert list(grpc.get_model_metadata("m").inputs[0].shape) == [-1, 4]
    config = grpc.get_model_config("m", as_json=True)["config"]
    assert (config["max_batch_size"], config["input"][0]["data_type"]) == (32, "TYPE_FP64")
    grpc.infer("m", grpc_input())
    [stats] = grpc.get_inference_statistics("m").model_stats
    assert stats.inference_stats.success.count >= 1
    assert {model.name for model in grpc.get_model_repository_index().models} == {"m", "mixed"}


@pytest.mark.parametrize("packing", [None, "gzip", "deflate"])
def test_grpc_inference(grpc: Any, expected: dict[str, Any], packing: str | None) -> None:
    """Raw contents, packed or not, with an id and named outputs."""
    outputs = [triton_grpc.InferRequestedOutput(name) for name in expected]
    result = grpc.infer("m", grpc_input(), outputs=outputs, request_id="7", compression_algorithm=packing)
    assert result.get_response().id == "7"
    same(result, expected)


def test_grpc_by_callback_and_refusals(grpc: Any, expected: dict[str, Any]) -> None:
    """Twenty calls at once are answered; a refusal is the client's own error."""
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(20):
        grpc.async_infer("m", grpc_input(), callback=lambda result, error: answers.put((result, error)))
    for _ in range(20):
        result, error = answers.get(timeout=20)
        assert error is None
        same(result, expected)
    with pytest.raises(InferenceServerException, match="the model must be one of"):
        grpc.infer("nothing", grpc_input())


def test_grpc_in_an_event_loop(server: LiveServer, expected: dict[str, Any]) -> None:
    """The client's asyncio form."""

    async def ask() -> None:
        async with triton_grpc_aio.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
            assert await client.is_model_ready("m")
            for result in await asyncio.gather(*(client.infer("m", grpc_input()) for _ in range(8))):
                same(result, expected)

    asyncio.run(ask())
