"""What nginx and HAProxy hold off the server with the files of `deploy/`: each limit at its value and one past it."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.serve.live import LiveServer, Reply, ask, serving, tensor
from tests.serve.packages import numeric_package
from tests.serve.test_following import until
from tests.servers.proxies import proxied

KINDS = [pytest.param(kind, marks=pytest.mark.needs(kind)) for kind in ("nginx", "haproxy")]
INFER = "/v2/models/m/infer"
BODY = {"inputs": [tensor("features", [1, 2, 3, 4], [1, 4])]}
MOST_OF_A_CLIENT = 200
UNLOAD = "/v2/repository/models/m/unload"
SPELLINGS = [
    UNLOAD,
    UNLOAD.replace("/repository", "//repository"),
    UNLOAD.replace("/v2", "/v2/."),
    UNLOAD.replace("/v2", "/v2/models/.."),
    UNLOAD.replace("/models", "/%6dodels"),
    UNLOAD.replace("/m/", "/%6d/"),
    UNLOAD.replace("repository", "%72epository"),
    UNLOAD.replace("/models/m", "%2Fmodels%2Fm"),
    UNLOAD.replace("unload", "%75nload"),
    f"{UNLOAD}?x=1",
    f"{UNLOAD}#x",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """It would unload a model for anybody: only the proxy stands before it."""
    package = numeric_package(tmp_path_factory.mktemp("packages"))
    with serving(package, model_control="explicit", management_port="main") as live:
        yield live


@pytest.fixture(scope="module", params=KINDS)
def port(request: pytest.FixtureRequest, server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with proxied(request.param, server.port, tmp_path_factory.mktemp("proxy")) as port:
        deadline_s = time.monotonic() + 10
        while asked(port).status != 200:  # until its first check of the server went well
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        yield port


def asked(port: int, path: str = INFER, body: object = BODY, headers: dict[str, str] | None = None) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        return ask(connection, "POST", path, body, headers)
    finally:
        connection.close()


HEAD = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\nExpect: 100-continue\r\n\r\n".encode()


def let_in(port: int) -> socket.socket:
    """A request whose body is still to come: the proxy has let it in, and the server waits for the rest.

    A proxy may not have seen yet that a connection before it is gone, which is why it is tried again.
    """
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        connection.sendall(HEAD)
        if connection.recv(4096).startswith(b"HTTP/1.1 100 "):
            return connection
        connection.close()
    raise AssertionError("the proxy must let a request in, got none that it did")


def test_requests_of_one_client(port: int) -> None:
    """Two hundred under way, whose bodies are still to come, are let in; the next is told when to come back."""
    with ExitStack() as held:
        for _ in range(MOST_OF_A_CLIENT - 1):
            held.enter_context(let_in(port))
        assert asked(port).status == 200
        held.enter_context(let_in(port))
        refused = asked(port)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert "200" in refused.json["error"]
    until(lambda: asked(port).status == 200)


def test_bytes_of_a_body(port: int) -> None:
    """16 MiB reach the server, one more does not, and the refusal is JSON."""
    content = json.dumps(BODY).encode()
    assert asked(port, body=content.ljust(16 << 20)).status == 200
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("POST", INFER)
    connection.putheader("Content-Length", str((16 << 20) + 1))
    connection.endheaders()
    refused = connection.getresponse()
    assert (refused.status, "16 MiB" in json.loads(refused.read())["error"]) == (413, True)
    connection.close()


def test_bytes_of_a_head(port: int) -> None:
    """A head that the server takes passes; one that it would refuse does not come as far as a model."""
    assert asked(port, headers={f"X-{index}": "x" * 15_000 for index in range(3)}).status == 200
    for headers in ({f"X-{index}": "x" * 15_000 for index in range(5)}, {"X-0": "x" * 70_000}):
        assert is_refused(port, headers)


def is_refused(port: int, headers: dict[str, str]) -> bool:
    """Whether a request with them is refused; a connection that is reset while the rest of them is sent is, too."""
    try:
        return asked(port, headers=headers).status in (400, 431)
    except OSError:
        return True


def test_a_head_that_drips(port: int) -> None:
    """A byte a second holds no connection for longer than the time of a head: 10 s."""
    begun_s = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
        slow.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\n")
        slow.settimeout(1.0)
        while time.monotonic() - begun_s < 25:
            try:
                slow.sendall(b"X")
                if not slow.recv(4096):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
    assert 8 < time.monotonic() - begun_s < 15


@pytest.mark.parametrize("path", SPELLINGS)
def test_models_are_not_unloaded_through_a_proxy(port: int, server: LiveServer, path: str) -> None:
    """By no spelling of the path, though the server behind it would."""
    assert asked(port, path, {}).status in (400, 403, 404)
    assert server.ask("POST", INFER, BODY).status == 200
    assert server.ask("GET", "/v2/health/ready").status == 200
