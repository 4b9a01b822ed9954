"""The protocol over gRPC against a real server: the answers of HTTP, a status for each refusal, health, deadlines."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from corelane.serve.grpc_health import MAX_WATCHES
from corelane.serve.messages import (
    HEALTH_MESSAGES,
    HEALTH_SERVICE,
    MESSAGES,
    NOT_SERVING,
    SERVICE,
    SERVICE_UNKNOWN,
    SERVING,
)
from tests.serve.live import LiveServer, serving, tensor
from tests.serve.packages import mixed_package, numeric_package
from tests.serve.test_following import until

ROWS = np.array([[1.0, 2.0, 3.0, 4.0], [0.5, -1.0, 0.0, 2.0]])


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    home = tmp_path_factory.mktemp("packages")
    return numeric_package(home), mixed_package(home, "mixed")


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two"])
def server(packages: tuple[Path, Path], request: pytest.FixtureRequest) -> Iterator[LiveServer]:
    with serving(*packages, grpc_port=0, workers=request.param, max_body=100_000) as live:
        yield live


@pytest.fixture
def ask(server: LiveServer) -> Iterator[Callable[..., Any]]:
    """Call a method with a message's fields; the reply."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:

        def call(method: str, *, timeout: float | None = 10.0, **fields: Any) -> Any:
            send = channel.unary_unary(
                f"/{SERVICE}/{method}",
                request_serializer=MESSAGES[f"{method}Request"].SerializeToString,
                response_deserializer=MESSAGES[f"{method}Response"].FromString,
            )
            return send(MESSAGES[f"{method}Request"](**fields), timeout=timeout)

        yield call


def described(name: str, datatype: str, shape: list[int], **contents: Any) -> Any:
    given = {"contents": MESSAGES["InferTensorContents"](**contents)} if contents else {}
    return MESSAGES["InferInputTensor"](name=name, datatype=datatype, shape=shape, **given)


def parameter(**value: Any) -> Any:
    return MESSAGES["InferParameter"](**value)


MATRIX = {
    "model_name": "m",
    "inputs": [described("features", "FP64", [2, 4])],
    "raw_input_contents": [ROWS.tobytes()],
}


def test_it_answers_what_http_answers(server: LiveServer, ask: Callable[..., Any]) -> None:
    """Raw contents in and out; the id comes back; outputs as asked for."""
    plain = {"inputs": [tensor("features", ROWS.ravel().tolist(), [2, 4])]}
    expected = {one["name"]: one for one in server.ask("POST", "/v2/models/m/infer", plain).json["outputs"]}
    reply = ask("ModelInfer", **MATRIX, id="7", model_version="1")
    assert (reply.model_name, reply.model_version, reply.id) == ("m", "1", "7")
    got = {one.name: (one, raw) for one, raw in zip(reply.outputs, reply.raw_output_contents, strict=True)}
    chances, raw = got["probabilities"]
    assert (chances.datatype, list(chances.shape)) == ("FP32", [2, 3])
    np.testing.assert_allclose(np.frombuffer(raw, "<f4"), expected["probabilities"]["data"], rtol=1e-6)
    assert np.frombuffer(got["label"][1], "<i8").tolist() == expected["label"]["data"]
    wanted = [MESSAGES["InferRequestedOutputTensor"](name="label")]
    assert [one.name for one in ask("ModelInfer", **MATRIX, outputs=wanted).outputs] == ["label"]


def test_elements_may_come_in_the_message(ask: Callable[..., Any]) -> None:
    """Each type in its own field; texts as bytes."""
    raw = ask("ModelInfer", **MATRIX).raw_output_contents
    plain = [described("features", "FP64", [2, 4], fp64_contents=ROWS.ravel())]
    assert ask("ModelInfer", model_name="m", inputs=plain).raw_output_contents == raw
    columns = [
        described("age", "INT8", [1], int_contents=[30]),
        described("colour", "BYTES", [1], bytes_contents=[b"red"]),
        described("weight", "FP32", [1], fp32_contents=[float("nan")]),
    ]
    value = ask("ModelInfer", model_name="mixed", inputs=columns).raw_output_contents[0]
    lone = struct.pack("<I", 3) + b"red"
    content = [np.int8(30).tobytes(), lone, np.float32(np.nan).tobytes()]
    bare = [described("age", "INT8", [1]), described("colour", "BYTES", [1]), described("weight", "FP32", [1])]
    assert (
        ask("ModelInfer", model_name="mixed", inputs=bare, raw_input_contents=content).raw_output_contents[0] == value
    )


REFUSED = {
    "unknown model": ({**MATRIX, "model_name": "x"}, grpc.StatusCode.NOT_FOUND, "must be one of m, mixed"),
    "unknown version": ({**MATRIX, "model_version": "2"}, grpc.StatusCode.NOT_FOUND, "version of m must be 1"),
    "no input": ({"model_name": "m"}, grpc.StatusCode.INVALID_ARGUMENT, "at least one tensor"),
    "short": ({**MATRIX, "raw_input_contents": [b"1"]}, grpc.StatusCode.INVALID_ARGUMENT, "must have 64 bytes"),
    "one too many": ({**MATRIX, "raw_input_contents": [b"1", b""]}, grpc.StatusCode.INVALID_ARGUMENT, "one for each"),
    "both": (
        {**MATRIX, "inputs": [described("features", "FP64", [2, 4], fp64_contents=[1.0])]},
        grpc.StatusCode.INVALID_ARGUMENT,
        "raw contents or others",
    ),
    "another field": (
        {"model_name": "m", "inputs": [described("features", "FP64", [2, 4], fp32_contents=[1.0] * 8)]},
        grpc.StatusCode.INVALID_ARGUMENT,
        "in fp64_contents, got fp32_contents",
    ),
    "beyond its type": (
        {"model_name": "m", "inputs": [described("features", "INT8", [2, 4], int_contents=[300] * 8)]},
        grpc.StatusCode.INVALID_ARGUMENT,
        "an element beyond it",
    ),
    "no such type": (
        {"model_name": "m", "inputs": [described("features", "FP16", [2, 4])]},
        grpc.StatusCode.INVALID_ARGUMENT,
        "send others as raw contents",
    ),
    "bad timeout": (
        {**MATRIX, "parameters": {"timeout": parameter(string_param="soon")}},
        grpc.StatusCode.INVALID_ARGUMENT,
        "timeout must be",
    ),
    "no value": (
        {**MATRIX, "parameters": {"timeout": parameter()}},
        grpc.StatusCode.INVALID_ARGUMENT,
        "must have a value",
    ),
    "late": (
        {**MATRIX, "parameters": {"timeout": parameter(int64_param=1)}},
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "deadline",
    ),
    "too large": (
        {**MATRIX, "raw_input_contents": [bytes(200_000)]},
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "larger than max",
    ),
}


@pytest.mark.parametrize(("fields", "status", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_each_refusal_has_its_status(ask: Callable[..., Any], fields: Any, status: Any, words: str) -> None:
    """And the server's own words; the next call is answered."""
    with pytest.raises(grpc.RpcError) as caught:
        ask("ModelInfer", **fields)
    assert caught.value.code() == status  # type: ignore[attr-defined]
    assert words in caught.value.details()  # type: ignore[attr-defined]
    assert ask("ModelInfer", **MATRIX).outputs


def test_the_server_and_its_models_are_described(server: LiveServer, ask: Callable[..., Any]) -> None:
    """Live, ready, metadata, configuration, the list: what HTTP tells."""
    assert ask("ServerLive").live
    assert ask("ServerReady").ready
    assert ask("ModelReady", name="m").ready
    assert list(ask("ServerMetadata").extensions) == server.ask("GET", "/v2").json["extensions"]
    told, model = server.ask("GET", "/v2/models/m").json, ask("ModelMetadata", name="m")
    assert [(one.name, one.datatype, list(one.shape)) for one in model.inputs] == [
        (one["name"], one["datatype"], one["shape"]) for one in told["inputs"]
    ]
    config = ask("ModelConfig", name="m").config
    assert (config.max_batch_size, config.input[0].data_type, list(config.input[0].dims)) == (32, 12, [4])
    assert {one.name for one in ask("RepositoryIndex", ready=True).models} == {"m", "mixed"}
    assert [one.name for one in ask("ModelStatistics", name="m").model_stats] == ["m"]
    assert len(ask("ModelStatistics").model_stats) == 2


def test_health_is_told_of_the_server_and_of_each_model(server: LiveServer) -> None:
    """As gRPC's own clients and Kubernetes ask."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        ends = {
            "request_serializer": HEALTH_MESSAGES["HealthCheckRequest"].SerializeToString,
            "response_deserializer": HEALTH_MESSAGES["HealthCheckResponse"].FromString,
        }
        check = channel.unary_unary(f"/{HEALTH_SERVICE}/Check", **ends)
        for service in ("", SERVICE, "m"):
            assert check(HEALTH_MESSAGES["HealthCheckRequest"](service=service), timeout=5).status == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            check(HEALTH_MESSAGES["HealthCheckRequest"](service="nothing"), timeout=5)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]
        watch = channel.unary_stream(f"/{HEALTH_SERVICE}/Watch", **ends)
        stream = watch(HEALTH_MESSAGES["HealthCheckRequest"](), timeout=5)
        assert next(stream).status == SERVING
        stream.cancel()
        unknown = watch(HEALTH_MESSAGES["HealthCheckRequest"](service="nothing"), timeout=5)
        assert next(unknown).status == SERVICE_UNKNOWN
        unknown.cancel()


def test_watching_is_bounded_and_ends_with_the_server(packages: tuple[Path, Path]) -> None:
    """One stream more than may be open is refused until another ends; none of them holds up the end."""
    with (
        serving(packages[0], grpc_port=0, drain_timeout_s=20) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        watch = watching(channel)
        streams = [watch(b"") for _ in range(MAX_WATCHES)]
        assert {next(stream).status for stream in streams} == {SERVING}
        with pytest.raises(grpc.RpcError) as caught:
            next(watch(b""))
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        streams.pop().cancel()
        until(lambda: one_more_is_let_in(watch))
        stopped_s = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - stopped_s < 10
        assert [one.status for one in streams[0]] == [NOT_SERVING]


def test_calls_under_way_are_bounded(packages: tuple[Path, Path]) -> None:
    """One more than there may be is refused at once, and welcome when another has ended."""
    with (
        serving(packages[0], grpc_port=0, max_connections=3) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        watch = watching(channel)
        streams = [watch(b"") for _ in range(3)]
        assert {next(stream).status for stream in streams} == {SERVING}
        live = channel.unary_unary(
            f"/{SERVICE}/ServerLive", response_deserializer=MESSAGES["ServerLiveResponse"].FromString
        )
        with pytest.raises(grpc.RpcError) as caught:
            live(b"", timeout=10)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        streams.pop().cancel()
        until(lambda: is_answered(live))


def watching(channel: grpc.Channel) -> Callable[..., Any]:
    """The call that opens a stream of the health check."""
    return channel.unary_stream(  # type: ignore[no-any-return]
        f"/{HEALTH_SERVICE}/Watch", response_deserializer=HEALTH_MESSAGES["HealthCheckResponse"].FromString
    )


def is_answered(call: Callable[..., Any]) -> bool:
    try:
        return bool(call(b"", timeout=10).live)
    except grpc.RpcError:
        return False


def one_more_is_let_in(watch: Callable[..., Any]) -> bool:
    stream = watch(b"")
    try:
        return bool(next(stream).status == SERVING)
    except grpc.RpcError:
        return False
    finally:
        stream.cancel()


def test_there_is_no_reflection_and_no_other_method(server: LiveServer) -> None:
    """What is not implemented is told as that."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        for method in (f"/{SERVICE}/Shutdown", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(method)(b"", timeout=5)
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


def test_bytes_that_are_no_message_are_refused(server: LiveServer) -> None:
    """Without harm to the next call."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        for content in (b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x0f", bytes(1000)):
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(f"/{SERVICE}/ModelInfer")(content, timeout=5)


def test_a_call_is_counted_and_a_stop_drains(packages: tuple[Path, Path]) -> None:
    """Metrics tell the protocol; SIGTERM ends the server with its calls answered."""
    with serving(packages[0], grpc_port=0) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            send = channel.unary_unary(
                f"/{SERVICE}/ModelInfer",
                request_serializer=MESSAGES["ModelInferRequest"].SerializeToString,
                response_deserializer=MESSAGES["ModelInferResponse"].FromString,
            )
            send(MESSAGES["ModelInferRequest"](**MATRIX), timeout=5)
            counted = 'corelane_inference_requests_total{model="m",protocol="grpc",status="200"} 1.0'
            assert counted in server.ask("GET", "/metrics").body.decode()
        start_s = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - start_s < 10.0


def test_a_receipt_comes_as_parameters(ask: Callable[..., Any]) -> None:
    """Where it is asked for."""
    told = ask("ModelInfer", **MATRIX, parameters={"receipt": parameter(bool_param=True)}).parameters
    assert told["batch_rows"].int64_param == 2
    assert told["plan"].string_param
    assert not ask("ModelInfer", **MATRIX).parameters
