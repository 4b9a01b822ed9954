"""Hostile input to a live server: no byte a client sends yields a 5xx, a long wait or a large process."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serve.live import LiveServer, serving, tensor
from tests.serve.packages import numeric_package
from tests.serve.test_oip import NEARLY

GOOD = json.dumps({"inputs": [tensor("features", [1, 2, 3, 4], [1, 4])]}).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with serving(numeric_package(tmp_path_factory.mktemp("packages")), body_timeout_s=1.0) as live:
        yield live


@pytest.fixture(autouse=True)
def still_serving(server: LiveServer) -> Iterator[None]:
    """After each attack the same workers answer a good request."""
    before = server.workers()
    yield
    assert server.ask("POST", "/v2/models/m/infer", GOOD).status == 200
    assert server.workers() == before


def resident_bytes(pid: int) -> int:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


def test_a_gigabyte_is_refused_unread(server: LiveServer) -> None:
    """A body of 1 GB is answered 413 after its head; the worker does not grow by a part of it."""
    [worker] = server.workers()
    before = resident_bytes(worker)
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (1 << 30)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        num_sent = 0
        with suppress(OSError):  # the server hangs up, as it should
            connection.sendall(head)
            while num_sent < 64 << 20:
                num_sent += connection.send(b"x" * 65536)
        assert num_sent < 64 << 20
    assert resident_bytes(worker) - before < 32 << 20


def test_an_endless_chunked_body_is_cut_off(server: LiveServer) -> None:
    """A chunked body that never ends is answered 413 once it is over the limit."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
        num_sent = 0
        with suppress(OSError):  # the server hangs up, as it should
            while num_sent < 256:
                connection.sendall(piece)
                num_sent += 1
        assert num_sent < 256


def test_slow_clients_block_nobody(server: LiveServer) -> None:
    """Fifty clients that stall in their bodies get 408, and others are served meanwhile."""
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    stalled = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(50)]
    try:
        for connection in stalled:
            connection.sendall(head)
        assert server.ask("POST", "/v2/models/m/infer", GOOD).status == 200
        for connection in stalled:
            assert connection.recv(65536).startswith(b"HTTP/1.1 408")
    finally:
        for connection in stalled:
            connection.close()


RAW = [
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    b"POST /v2/models/m/infer HTTP/1.1\r\nHost : x\r\nContent-Length: 0\r\n\r\n",
    b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: \x00\r\n\r\n",
    b"GET /v2 HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % index for index in range(10_000)) + b"\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]


@pytest.mark.parametrize("attack", RAW)
def test_broken_http_is_refused_or_hung_up_on(server: LiveServer, attack: bytes) -> None:
    """Broken framing, versions and headers get a 4xx or a closed connection, never a 5xx."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        reply = b""
        with suppress(OSError):  # reset: the server hung up before it had read everything
            connection.sendall(attack)
            connection.shutdown(socket.SHUT_WR)
            reply = connection.recv(65536)
    assert not reply or reply.startswith(b"HTTP/1.1 4"), reply


@settings(max_examples=100, deadline=None)
@given(
    body=st.one_of(st.binary(max_size=300), NEARLY.map(lambda value: json.dumps(value).encode())),
    path=st.sampled_from(["/v2/models/m/infer", "/v2/models/m/versions/1/infer", "/v1/models/m:predict"]),
)
def test_no_body_yields_a_5xx(server: LiveServer, body: bytes, path: str) -> None:
    """Whatever the body, the answer is a prediction or a 4xx with one error message."""
    reply = server.ask("POST", path, body)
    assert reply.status == 200 or 400 <= reply.status < 500
    assert reply.status == 200 or list(reply.json) == ["error"]


@settings(max_examples=60, deadline=None)
@given(replaced=st.dictionaries(st.sampled_from(["name", "shape", "datatype", "data", "parameters"]), NEARLY))
def test_no_tensor_yields_a_5xx(server: LiveServer, replaced: dict[str, object]) -> None:
    """A good request with fields of its tensor replaced is answered or refused, through pipeline and model."""
    good = tensor("features", [1, 2, 3, 4], [1, 4])
    reply = server.ask("POST", "/v2/models/m/infer", {"inputs": [{**good, **replaced}]})
    assert reply.status == 200 or 400 <= reply.status < 500


@settings(max_examples=60, deadline=None)
@given(
    path=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='#? "<>\\^`{|}'), max_size=80)
)
def test_no_path_yields_a_5xx(server: LiveServer, path: str) -> None:
    """Whatever the path, the answer is a 4xx unless the path is served."""
    reply = server.ask("GET", "/" + path)
    assert reply.status < 500
