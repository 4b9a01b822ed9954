"""Each limit of the table in `docs/serve.md`: what is at it is answered, what is one past it is refused as stated."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corelane.serve.http import MAX_TIMEOUT_MS
from corelane.serve.oip import MAX_ID
from corelane.serve.values import MAX_RANK
from corelane.web.head import MAX_HEAD_BYTES, MAX_HEADERS
from tests.serve.live import LiveServer, serving, tensor
from tests.serve.packages import numeric_package

INFER = "/v2/models/m/infer"
MAX_BODY = 4096
ARRIVING = 6000
BODY_S = 1.0
HEADER_S = 2.0
CONNECTIONS = 6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    settings = {"max_body": MAX_BODY, "arriving_bytes": ARRIVING}
    settings |= {"body_timeout_s": BODY_S, "header_timeout_s": HEADER_S}
    with serving(numeric_package(tmp_path_factory.mktemp("packages")), **settings) as live:
        yield live


def body_of(num_bytes: int, **more: Any) -> bytes:
    """A good request of so many bytes, made up with spaces."""
    content = json.dumps({**more, "inputs": [tensor("features", [1, 2, 3, 4], [1, 4])]}).encode()
    return content + b" " * (num_bytes - len(content))


def status_of(server: LiveServer, raw: bytes) -> int:
    """The status of the first answer to raw bytes; 0 where the connection was closed without one."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(raw)
        try:
            answer = connection.recv(65536)
        except ConnectionResetError:
            return 0
    return int(answer.split()[1]) if answer else 0


def chunked(content: bytes) -> bytes:
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"%x\r\n" % len(content) + content + b"\r\n0\r\n\r\n"


def test_bytes_of_a_body(server: LiveServer) -> None:
    """Told by its length, or counted as it comes."""
    for past, status in ((0, 200), (1, 413)):
        content = body_of(MAX_BODY + past)
        assert server.ask("POST", INFER, content).status == status
        assert status_of(server, chunked(content)) == status


def test_bytes_of_all_bodies_that_are_arriving(server: LiveServer) -> None:
    """One byte more is refused at once; what comes whole is served meanwhile, and so is all when there is room."""
    content = body_of(MAX_BODY)
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY}\r\n\r\n".encode()

    def begun(num_bytes: int) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        connection.sendall(head + content[:num_bytes])
        assert server.ask("POST", INFER, body_of(500)).status == 200  # behind what was sent before it
        return connection

    with begun(4000) as first, begun(ARRIVING - 4000) as second:
        with begun(1) as third:
            assert third.recv(65536).startswith(b"HTTP/1.1 429 ")
        first.close()
        second.sendall(content[ARRIVING - 4000 :])
        assert second.recv(65536).startswith(b"HTTP/1.1 200 ")
    for _ in range(3):  # what was refused, left or answered is not counted any more
        with begun(4000) as one:
            one.sendall(content[4000:])
            assert one.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_bytes_that_come_out_of_a_packed_body(server: LiveServer) -> None:
    """However few went in."""
    for past, status in ((0, 200), (1, 413)):
        packed = gzip.compress(body_of(MAX_BODY + past))
        assert len(packed) < MAX_BODY // 4
        assert server.ask("POST", INFER, packed, {"Content-Encoding": "gzip"}).status == status


def test_characters_of_an_id(server: LiveServer) -> None:
    """It is echoed."""
    for length, status in ((MAX_ID, 200), (MAX_ID + 1, 400)):
        reply = server.ask("POST", INFER, body_of(0, id="i" * length))
        assert reply.status == status
        assert status == 400 or reply.json["id"] == "i" * length


def test_axes_of_a_tensor(server: LiveServer) -> None:
    """Those of one element count too."""
    for rank in (MAX_RANK, MAX_RANK + 1):
        given = tensor("features", [1, 2, 3, 4], [1] * (rank - 1) + [4])
        reply = server.ask("POST", INFER, {"inputs": [given]})
        assert reply.status == 400
        is_no_shape = "with at least one row, got" in reply.json["error"]  # else it is one, and not this model's
        assert is_no_shape == (rank > MAX_RANK), reply.json


def test_depth_of_a_body(server: LiveServer) -> None:
    """What is too deep for the parser is told as what it is: no JSON that can be read."""
    for depth in (100, 2000):
        deep = b'{"inputs": ' + b"[" * depth + b"]" * depth + b"}"
        assert server.ask("POST", INFER, deep).status == 400


def test_milliseconds_of_a_deadline(server: LiveServer) -> None:
    """From one to an hour; within one nobody is answered surely."""
    for value, statuses in ((1, {200, 429, 504}), (MAX_TIMEOUT_MS, {200}), (MAX_TIMEOUT_MS + 1, {400}), (0, {400})):
        assert server.ask("POST", INFER, body_of(0), {"Corelane-Timeout-Ms": str(value)}).status in statuses


def test_number_of_headers(server: LiveServer) -> None:
    """A hundred, that of the host among them."""
    for number, status in ((MAX_HEADERS, 200), (MAX_HEADERS + 1, 431)):
        lines = "".join(f"x-{index}: 1\r\n" for index in range(number - 1))
        assert status_of(server, f"GET /v2 HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()) == status


def test_bytes_of_a_head(server: LiveServer) -> None:
    """Of the target, and of the names and values of headers together."""
    others = len("/v2Hostxx-long")
    for length, status in ((MAX_HEAD_BYTES - others, 200), (MAX_HEAD_BYTES - others + 1, 431)):
        head = f"GET /v2 HTTP/1.1\r\nHost: x\r\nx-long: {'a' * length}\r\n\r\n".encode()
        assert status_of(server, head) == status


def test_seconds_for_a_body(server: LiveServer) -> None:
    """One that is whole in time is answered, one that is not is told so, and the connection is closed."""
    content = body_of(200)
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    for wait_s, status in ((BODY_S / 4, b"200"), (BODY_S * 2, b"408")):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(head + content[:10])
            time.sleep(wait_s)
            try:
                connection.sendall(content[10:])
                answer = connection.recv(65536)
            except (ConnectionResetError, BrokenPipeError):
                answer = b"HTTP/1.1 408"
            assert answer.split()[1] == status


def test_seconds_for_a_head(server: LiveServer) -> None:
    """A connection that says nothing more is closed."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: ")
        begin_s = time.monotonic()
        while connection.recv(65536):
            pass
        assert HEADER_S * 0.5 <= time.monotonic() - begin_s <= HEADER_S * 3


def test_open_connections(tmp_path: Path) -> None:
    """More wait to be accepted until others end."""
    with serving(numeric_package(tmp_path), max_connections=CONNECTIONS) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(CONNECTIONS)]
        for connection in idle:
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200 OK" in connection.recv(65536)
        with socket.create_connection(("127.0.0.1", server.port), timeout=1) as waiting:
            waiting.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            with pytest.raises(TimeoutError):
                waiting.recv(65536)
            for connection in idle:
                connection.close()
            waiting.settimeout(10)
            assert b"200 OK" in waiting.recv(65536)
