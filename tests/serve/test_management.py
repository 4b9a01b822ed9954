"""Management on a port of its own: what it tells, what it changes, who may call it, and that it outlives workers."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
import tritonclient.http

from corelane.core.clock import ManualClock, SystemClock
from corelane.core.errors import ForbiddenError, OverloadedError, UnauthorizedError
from corelane.model.registry import ModelManager
from corelane.serve.callers import WRONG_TOKENS, WRONG_WITHIN_S, PatientGuard, admission
from corelane.serve.config import ServeConfig
from corelane.serve.managed import LOOK_S, MAX_BODY
from corelane.serve.messages import MESSAGES, SERVICE
from corelane.serve.tokens import TokenFile, new_token
from tests.faults import canary
from tests.serve.live import LiveServer, serving, tensor
from tests.serve.packages import numeric_package, told_package
from tests.serve.test_following import until

INFER = "/v2/models/m/infer"
LOAD, UNLOAD = "/v2/repository/models/m/load", "/v2/repository/models/m/unload"


def body(first: float = 1.0) -> dict[str, Any]:
    return {"inputs": [tensor("features", [first, 2, 3, 4], [1, 4])]}


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Two workers and a registry with two versions of m, loaded when that is asked for."""
    registry = ModelManager(tmp_path_factory.mktemp("managed") / "registry")
    for told in (1, 2):
        told_package(Path(registry.place.url), told)
    registry.promote("m", 1)
    settings = {"workers": 2, "grpc_port": 0, "model_control": "explicit", "request_timeout_s": 3}
    with serving(registry=registry.place.url, models="[m]", **settings) as server:
        yield server


def version(server: LiveServer) -> set[str]:
    return {server.ask("GET", "/v2/models/m").json["versions"][0] for _ in range(8)}


def health(server: LiveServer) -> list[str]:
    return sorted(server.manage("GET", "/v2/health/ready").json["workers"].values())


def test_it_tells_of_all_workers(managed: LiveServer) -> None:
    """Their processes, cores, readiness, metrics, models, and the slowest requests of them together."""
    assert managed.management_url != managed.url
    for _ in range(20):  # some for each worker
        assert managed.ask("POST", INFER, body()).status == 200
    assert managed.manage("GET", "/v2/health/live").json == {"live": True}
    ready = managed.manage("GET", "/v2/health/ready")
    assert (ready.status, ready.json) == (200, {"ready": True, "workers": {"worker-0": "ready", "worker-1": "ready"}})
    workers = managed.manage("GET", "/workers").json["workers"]
    assert sorted(one["pid"] for one in workers) == managed.workers()
    assert {(one["state"], one["health"], one["restarts"]) for one in workers} == {("running", "ready", 0)}
    assert [one["cpus"] for one in workers] == [[0], [1]]
    metrics = managed.manage("GET", "/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert b"corelane_inference_requests_total" in metrics.body
    assert [one["name"] for one in managed.manage("POST", "/v2/repository/index", {}).json] == ["m"]
    slowest = managed.manage("GET", "/v2/models/m/slowest").json
    assert slowest["silent"] == []
    assert {one["worker"] for one in slowest["slowest"]} == {"worker-0", "worker-1"}
    times = [one["total_us"] for one in slowest["slowest"]]
    assert (times, len(times)) == (sorted(times, reverse=True), 16)


def test_models_change_there_and_nowhere_else(managed: LiveServer) -> None:
    """By Triton's client as well; the main port and gRPC say which setting is meant."""
    host = urlsplit(managed.management_url or "").netloc
    client = tritonclient.http.InferenceServerClient(host)
    assert client.is_server_ready()
    client.load_model("m")
    assert version(managed) == {"1"}
    assert managed.manage("POST", LOAD, {"parameters": {"version": 2}}).status == 200
    assert version(managed) == {"2"}
    for path in (LOAD, UNLOAD):
        refused = managed.ask("POST", path, {})
        assert (refused.status, "serve.management_port" in refused.json["error"]) == (403, True)
    with grpc.insecure_channel(f"127.0.0.1:{managed.grpc_port}") as channel:
        call = channel.unary_unary(f"/{SERVICE}/RepositoryModelUnload")
        request = MESSAGES["RepositoryModelUnloadRequest"](model_name="m")
        with pytest.raises(grpc.RpcError) as told:
            call(request.SerializeToString(), timeout=20)
    assert told.value.code() is grpc.StatusCode.PERMISSION_DENIED
    client.unload_model("m")
    assert {managed.ask("POST", INFER, body()).status for _ in range(8)} == {404}
    assert managed.manage("GET", "/v2/models/m/slowest").status == 404
    assert managed.manage("POST", LOAD).status == 200
    assert version(managed) == {"1"}


def test_what_is_no_call_of_management_is_refused(managed: LiveServer) -> None:
    """Paths of inference, odd names, bodies that are none or one byte too large: in words, and nothing happens."""
    for method, path, status in (
        ("POST", INFER, 404),
        ("GET", "/v2/models/m", 404),
        ("GET", LOAD, 405),
        ("POST", "/workers", 405),
        ("POST", "/v2/repository/models/../load", 404),
        ("POST", "/v2/repository/models/m%0d%0aX:%20y/unload", 404),
        ("POST", "/v2/repository/models/%25%32e/unload", 404),
        ("POST", "/v2/repository/models/caf%C3%A9/unload", 404),
        ("GET", "/v2/models/m/n/slowest", 404),
        ("GET", "/v2/models//slowest", 404),
    ):
        reply = managed.manage(method, path, {} if method == "POST" else None)
        assert (reply.status, "error" in reply.json) == (status, True), (path, reply)
    for content, status in ((b"[]", 400), (b"{", 400), (b"{}".ljust(MAX_BODY), 200), (b"{}".ljust(MAX_BODY + 1), 413)):
        assert managed.manage("POST", "/v2/repository/index", content).status == status, content[:5]
    assert version(managed) == {"1"}


def test_no_page_of_another_site_may_call(managed: LiveServer) -> None:
    """By its Origin, or by a name that was made to point here; addresses, localhost and no Origin are fine."""
    port = urlsplit(managed.management_url or "").port
    for headers, status in (
        ({"Host": "evil.example"}, 403),
        ({"Host": f"evil.example:{port}"}, 403),
        ({"Host": f"localhost.evil.example:{port}"}, 403),
        ({"Host": f"127.0.0.1.evil.example:{port}"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Origin": f"http://127.0.0.1:{port}"}, 200),
        ({"Host": f"LOCALHOST:{port}"}, 200),
        ({"Host": f"[::1]:{port}"}, 200),
    ):
        for method, path in (("GET", "/workers"), ("GET", "/v2/health/live"), ("POST", "/v2/repository/index")):
            reply = managed.manage(method, path, {} if method == "POST" else None, headers)
            assert reply.status == status, (headers, path, reply)
    for host, is_let_in in (("corelane.internal", True), ("other.internal", False)):
        admit = admission("corelane.internal", has_tokens=False)
        if is_let_in:
            admit({"host": host})
        else:
            with pytest.raises(ForbiddenError):
                admit({"host": host})
    admission("0.0.0.0", has_tokens=True)({"host": "other.internal:8001"})


def test_it_stays_up_while_a_worker_does_not_answer(managed: LiveServer) -> None:
    """A worker that is stopped is told of within its second; what one cannot follow is a 503 that says so."""
    stopped = managed.workers()[0]
    os.kill(stopped, signal.SIGSTOP)
    try:
        asked_s = time.monotonic()
        ready = managed.manage("GET", "/v2/health/ready")
        assert time.monotonic() - asked_s < 3 * LOOK_S
        assert (ready.status, sorted(ready.json["workers"].values())) == (503, ["ready", "silent"])
        told = {one["pid"]: one["health"] for one in managed.manage("GET", "/workers").json["workers"]}
        assert told[stopped] == "silent"
        assert managed.manage("GET", "/metrics").status == 200
        assert managed.manage("GET", "/v2/models/m/slowest").json["silent"] == [
            name for name, state in ready.json["workers"].items() if state == "silent"
        ]
        refused = managed.manage("POST", LOAD, {"parameters": {"version": 2}})
        assert (refused.status, "no word of worker-" in refused.json["error"]) == (503, True)
    finally:
        os.kill(stopped, signal.SIGCONT)
    until(lambda: health(managed) == ["ready", "ready"])
    until(lambda: version(managed) == {"2"})
    assert managed.manage("POST", LOAD, {"parameters": {"version": 1}}).status == 200


def test_it_stays_up_while_a_worker_comes_back(managed: LiveServer) -> None:
    """Killed workers are absent, nothing is sent to them, and who comes back serves what was loaded last."""
    [victim, _] = managed.workers()
    managed.kill_worker(victim)
    until(lambda: "absent" in health(managed))
    assert managed.manage("GET", "/v2/health/ready").status == 200
    assert managed.manage("POST", "/v2/repository/index", {}).status == 200
    assert managed.manage("POST", LOAD, {"parameters": {"version": 2}}, timeout_s=30).status in (200, 503)
    until(lambda: health(managed) == ["ready", "ready"])
    until(lambda: version(managed) == {"2"})
    [told] = [one for one in managed.manage("GET", "/workers").json["workers"] if one["restarts"]]
    assert "SIGKILL" in told["reason"]


def test_it_stays_up_while_a_model_hangs_its_only_worker(tmp_path: Path) -> None:
    """Its event loop runs for ever until the watchdog ends it; management tells, and is told when it is back."""
    with serving(canary.looping(tmp_path), management_port=0, hang_timeout_s=3) as server:
        assert health(server) == ["ready"]
        with socket.create_connection(("127.0.0.1", server.port)) as asking:
            content = json.dumps(body(1e15)).encode()
            head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
            asking.sendall(head.encode() + content)
            until(lambda: health(server) == ["silent"])
            assert server.manage("GET", "/v2/health/live").status == 200
            assert server.manage("GET", "/metrics").status == 200
            for method, path in (("POST", "/v2/repository/index"), ("POST", UNLOAD)):
                refused = server.manage(method, path, {})
                assert (refused.status, "a worker must be running" in refused.json["error"]) == (503, True)
            assert server.manage("GET", "/v2/models/m/slowest").status == 503
            until(lambda: health(server) == ["ready"])
        assert server.stop() == 0


def test_tokens_count_there_too(tmp_path: Path) -> None:
    """Each call wants its scope; who tries tokens is told to wait, and a right one is let in all the same."""
    tokens = tmp_path / "tokens.json"
    read, manage = (new_token(tokens, scope, [scope], SystemClock()) for scope in ("read", "manage"))
    with serving(numeric_package(tmp_path), tokens=tokens, model_control="explicit") as server:

        def status(method: str, path: str, token: str | None) -> int:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            return server.manage(method, path, {} if method == "POST" else None, headers).status

        for method, path, right, wrong in (
            ("GET", "/workers", read, manage),
            ("GET", "/metrics", read, manage),
            ("POST", "/v2/repository/index", read, manage),
            ("POST", LOAD, manage, read),
        ):
            assert [status(method, path, token) for token in (right, wrong, None)] == [200, 403, 401], path
        assert status("GET", "/v2/health/ready", None) == 200
        told = [status("POST", UNLOAD, "crl_unknown") for _ in range(WRONG_TOKENS + 2)]
        assert told == [401] * WRONG_TOKENS + [429] * 2
        refused = server.manage("GET", "/workers", headers={"Authorization": "Bearer crl_unknown"})
        assert 0 < int(refused.headers["retry-after"]) <= WRONG_WITHIN_S
        assert status("GET", "/workers", read) == 200
        assert (
            server.manage("GET", "/workers", headers={"Host": "a.name", "Authorization": f"Bearer {read}"}).status
            == 200
        )


def test_wrong_tokens_are_forgiven_after_a_while(tmp_path: Path) -> None:
    """Only as many as are allowed count, and one that is missing does not."""
    clock = ManualClock(1000.0)
    new_token(tmp_path / "tokens.json", "a", ["read"], clock)
    guard = PatientGuard(TokenFile(tmp_path / "tokens.json", clock), clock)
    for _ in range(2 * WRONG_TOKENS):
        with pytest.raises(UnauthorizedError):
            guard.check(None, "read")
    for _ in range(WRONG_TOKENS):
        with pytest.raises(UnauthorizedError):
            guard.check("Bearer crl_x", "read")
    with pytest.raises(OverloadedError) as told:
        guard.check("Bearer crl_x", "read")
    assert told.value.retry_after_s == WRONG_WITHIN_S
    clock.sleep(WRONG_WITHIN_S)
    with pytest.raises(UnauthorizedError):
        guard.check("Bearer crl_x", "read")


def test_where_management_listens() -> None:
    """Nowhere unless it is asked for or needed; on loopback unless there are TLS and tokens."""
    assert ServeConfig().port_of_management is None
    assert ServeConfig(model_control="explicit").port_of_management == 0
    assert ServeConfig(management_port=8001).port_of_management == 8001
    assert ServeConfig(model_control="explicit", management_port="main").port_of_management is None
    with pytest.raises(ValueError, match="management_host must be a loopback address"):
        ServeConfig(management_port=0, management_host="0.0.0.0")
    with pytest.raises(ValueError, match="management_port"):
        ServeConfig(management_port=70_000)
    pair = {"tls_certificate": "c.pem", "tls_key": "k.pem", "tokens": "t.json"}
    assert ServeConfig(host="0.0.0.0", **pair).management_tls is None
    assert ServeConfig(management_host="0.0.0.0", **pair).management_tls is not None


def test_the_end_does_not_wait_for_who_stays_connected(tmp_path: Path) -> None:
    """A connection that idles, and one in the middle of a head, are closed; the server ends in order."""
    with serving(numeric_package(tmp_path), management_port=0) as server:
        port = urlsplit(server.management_url or "").port or 0
        idle = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        idle.request("GET", "/workers")
        assert idle.getresponse().read()
        with socket.create_connection(("127.0.0.1", port)) as half:
            half.sendall(b"GET /workers HT")
            assert server.stop() == 0
        idle.close()
