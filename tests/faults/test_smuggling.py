"""Requests that two parsers may read as one or as two, sent to a live server and through the proxies of `deploy/` too.

One request in is at most one reply out, and what hides in a body is no request: the server, asked past the proxy, has
answered none for the path that only the hidden request names.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from tests.serve.live import LiveServer, serving, tensor
from tests.serve.packages import numeric_package
from tests.servers.proxies import proxied

INFER = "/v2/models/m/infer"
GOOD = {"inputs": [tensor("features", [1, 2, 3, 4], [1, 4])]}
MARKER = b"GET /v2/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
REPLY_S = 0.7
"""How long a reply may take here, and a second one is waited for: many times what an answer takes."""


@dataclass(frozen=True)
class Way:
    """A way to the server: the port to send to, and the server."""

    kind: str
    port: int
    server: LiveServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with serving(numeric_package(tmp_path_factory.mktemp("packages")), body_timeout_s=1.0) as live:
        yield live


@pytest.fixture(
    scope="module",
    params=[
        "direct",
        pytest.param("nginx", marks=pytest.mark.needs("nginx")),
        pytest.param("haproxy", marks=pytest.mark.needs("haproxy")),
    ],
)
def way(request: pytest.FixtureRequest, server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    with proxied(request.param, server.port, tmp_path_factory.mktemp("proxy")) as port:
        live = Way(request.param, port, server)
        _until_served(live)
        yield live


def _until_served(way: Way) -> None:
    """HAProxy sends nothing to a server before its first check of it."""
    deadline_s = time.monotonic() + 20
    while not replies_to(way.port, b"GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").startswith(
        b"HTTP/1.1 200"
    ):
        assert time.monotonic() < deadline_s, "the proxy must find the server"


def replies_to(port: int, raw: bytes) -> bytes:
    """Whatever comes back until the connection is closed, or nothing more comes."""
    came = b""
    with socket.create_connection(("127.0.0.1", port), timeout=REPLY_S) as connection, suppress(OSError):
        connection.sendall(raw)
        while piece := connection.recv(65536):
            came += piece
    return came


def post(headers: bytes, body: bytes = b"") -> bytes:
    return b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n" + body


LENGTH = b"Content-Length: %d\r\n" % len(MARKER)
HIDDEN = {
    "length and chunked": post(LENGTH + b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n" + MARKER),
    "chunked and length": post(b"Transfer-Encoding: chunked\r\n" + LENGTH, b"0\r\n\r\n" + MARKER),
    "two lengths": post(b"Content-Length: 0\r\n" + LENGTH, MARKER),
    "two lengths, the long first": post(LENGTH + b"Content-Length: 0\r\n", MARKER),
    "a list of lengths": post(b"Content-Length: 0, %d\r\n" % len(MARKER), MARKER),
    "a signed length": post(b"Content-Length: +0\r\n", MARKER),
    "a length in hexadecimal": post(b"Content-Length: 0x0\r\n", MARKER),
    "an unknown encoding": post(b"Transfer-Encoding: xchunked\r\n" + LENGTH, MARKER),
    "chunked twice": post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", b"0\r\n\r\n" + MARKER),
    "chunked is not last": post(b"Transfer-Encoding: chunked, gzip\r\n", b"0\r\n\r\n" + MARKER),
    "a folded encoding": post(b"Transfer-Encoding:\r\n chunked\r\n" + LENGTH, b"0\r\n\r\n" + MARKER),
    "a folded header": post(b"X: a\r\n b\r\n" + LENGTH, MARKER),
    "a space before the colon": post(b"Content-Length : %d\r\n" % len(MARKER), MARKER),
    "a space before the colon of an encoding": post(b"Transfer-Encoding : chunked\r\n" + LENGTH, MARKER),
    "NUL in a header": post(b"X: a\x00b\r\n" + LENGTH, MARKER),
    "bad size of a chunk": post(b"Transfer-Encoding: chunked\r\n", b"0x0\r\n\r\n" + MARKER),
    "a length behind a bare line feed": post(b"X: y\n" + LENGTH, MARKER),
    "a whole body": post(LENGTH, MARKER),
}
ALONE = {
    "an absolute address": b"GET http://elsewhere/v2 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a bad host": b"GET /v2 HTTP/1.1\r\nHost: a b/..\r\n\r\n",
    "two hosts": b"GET /v2 HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "no host": b"GET /v2 HTTP/1.1\r\n\r\n",
    "bare line feeds": b"GET /v2 HTTP/1.1\nHost: x\n\n",
    "200 kB of a header": b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    "10,000 headers": b"GET /v2 HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(10_000)) + b"\r\n",
}


def statuses_in(came: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", came)]


def num_unknown_paths(server: LiveServer) -> float:
    """How many requests the server itself has answered 404 so far."""
    text = server.ask("GET", "/metrics").body.decode()
    counts = re.findall(r'corelane_inference_requests_total\{[^}]*status="404"[^}]*\} ([0-9.]+)', text)
    return sum(map(float, counts))


def test_the_oracle_sees_the_hidden_request_where_it_is_one(way: Way) -> None:
    """Sent openly, it is counted: the test below can fail."""
    before = num_unknown_paths(way.server)
    assert statuses_in(replies_to(way.port, MARKER)) == [404]
    assert num_unknown_paths(way.server) == before + 1


@pytest.mark.parametrize("attack", HIDDEN)
def test_what_hides_in_a_body_is_no_request(way: Way, attack: str) -> None:
    """At most one reply, a refusal; the server has not answered the hidden request; others are served."""
    before = num_unknown_paths(way.server)
    came = replies_to(way.port, HIDDEN[attack])
    assert len(statuses_in(came)) <= 1, came
    assert all(400 <= status < 500 or status == 501 for status in statuses_in(came)), came  # 501 is nginx's own
    assert num_unknown_paths(way.server) == before, came
    assert way.server.ask("POST", INFER, GOOD).status == 200


@pytest.mark.parametrize("attack", ALONE)
def test_an_odd_head_gets_one_reply(way: Way, attack: str) -> None:
    """An answer, a refusal or a closed connection, and never two or a failure of the server's."""
    statuses = statuses_in(replies_to(way.port, ALONE[attack]))
    assert len(statuses) <= 1
    assert all(status == 200 or 400 <= status < 500 for status in statuses), statuses
