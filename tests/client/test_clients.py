"""Both clients against a real server: the same answers as offline, deadlines, and what is asked again."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corelane.client import AsyncClient, Client, RetryBudget, wire
from corelane.core.errors import (
    ConfigError,
    ConnectionLostError,
    DeadlineError,
    NotFoundError,
    NotReadyError,
    OverloadedError,
    RequestError,
    ServerFailedError,
)
from corelane.model.package import ModelPackage
from corelane.web.tensors import TIMEOUT_HEADER
from tests.serve.live import LiveServer, serving
from tests.serve.packages import mixed_package, numeric_package

ROWS = np.array([[1.0, 2.0, 3.0, 4.0], [0.5, -1.0, 0.0, 2.0]])


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    home = tmp_path_factory.mktemp("packages")
    return numeric_package(home), mixed_package(home, "mixed")


@pytest.fixture(scope="module")
def server(packages: tuple[Path, Path]) -> Iterator[LiveServer]:
    with serving(*packages) as live:
        yield live


class Waiting:
    """An `AsyncClient` that is called as the other one is."""

    def __init__(self, url: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = self._runner.run(self._made(url, options))

    async def _made(self, url: str, options: dict[str, Any]) -> AsyncClient:
        return AsyncClient(url, **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Awaitable[Any]] = getattr(self._client, name)

        async def call(*given: Any, **named: Any) -> Any:
            return await method(*given, **named)

        return lambda *given, **named: self._runner.run(call(*given, **named))

    def __enter__(self) -> Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


@pytest.fixture(params=[Client, Waiting], ids=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_tensors_give_what_offline_gives(kind: Any, server: LiveServer, packages: tuple[Path, Path]) -> None:
    """All outputs or those asked for, of the newest or a named version."""
    with ModelPackage.load(packages[0]).predictor() as predictor, kind(server.url) as client:
        expected = predictor.predict_matrix(ROWS)
        got = client.infer("m", {"features": ROWS})
        assert got["label"].tolist() == expected["label"].tolist()
        np.testing.assert_array_equal(got["probabilities"], expected["probabilities"])
        assert list(client.infer("m", {"features": ROWS.astype(np.float32)}, outputs=["label"], version=1)) == ["label"]


def test_columns_of_texts_and_numbers(kind: Any, server: LiveServer) -> None:
    """Texts as lists; a record has null for a missing value."""
    with kind(server.url) as client:
        columns = {"age": np.array([30.0]), "colour": ["red"], "weight": np.array([np.nan])}
        value = client.infer("mixed", columns)["value"]
        (record,) = client.predict("mixed", [{"age": 30, "colour": "red", "weight": None}])
        assert record["value"] == value[0]
        assert {one["name"] for one in client.metadata("mixed")["inputs"]} == {"age", "colour", "weight"}
        assert client.is_ready()
        assert client.is_ready("mixed")
        assert not client.is_ready("nothing")


def test_the_servers_refusals_are_errors(kind: Any, server: LiveServer) -> None:
    """With the server's own words; none of them is asked again."""
    with kind(server.url) as client:
        with pytest.raises(NotFoundError, match="must be one of m, mixed, got 'nothing'"):
            client.infer("nothing", {"x": ROWS})
        with pytest.raises(RequestError, match="shape of 'features'"):
            client.infer("m", {"features": ROWS[:, :3]})
        with pytest.raises(RequestError, match="must be an array of numbers"):
            client.infer("m", {"features": np.array([1j])})
        with pytest.raises(DeadlineError):
            client.infer("m", {"features": ROWS}, timeout_s=1e-9)


def test_a_server_that_is_not_there(kind: Any) -> None:
    """It is asked a few times, and then the loss is told."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    with kind(f"http://127.0.0.1:{port}") as client:
        start_s = time.monotonic()
        with pytest.raises(ConnectionLostError, match="must be reachable"):
            client.infer("m", {"features": ROWS})
        assert time.monotonic() - start_s < 5.0
        assert not client.is_ready()


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://", ""])
def test_a_url_must_be_one(url: str) -> None:
    """Before anything is asked."""
    with pytest.raises(ConfigError, match="URL must be"):
        Client(url)


class Scripted:
    """A server that gives the next of some replies to each connection, and counts them."""

    def __init__(self, *replies: bytes) -> None:
        self._replies = replies
        self.asked = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        for reply in self._replies:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # it was closed: nobody asks any more
                return
            with connection:
                connection.recv(1 << 16)
                self.asked += 1
                connection.sendall(reply)

    def close(self) -> None:
        self._listener.close()


def reply(status: int, body: bytes = b'{"error": "words"}', *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status} x", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


GOOD = reply(200, b'{"predictions": [{"value": 1.0}]}')


@pytest.mark.parametrize(
    "first", [reply(503), reply(429, b'{"error": "words"}', "Retry-After: 0"), b"", b"HTTP/1.1 200 x\r\nContent-Le"]
)
def test_what_may_pass_is_asked_again(kind: Any, first: bytes) -> None:
    """A server that starts, one that sheds, a connection that broke."""
    server = Scripted(first, GOOD)
    with kind(server.url) as client:
        assert client.predict("m", [{"x": 1}]) == [{"value": 1.0}]
    assert server.asked == 2
    server.close()


@pytest.mark.parametrize("status", [400, 404, 413, 500, 504])
def test_what_would_come_again_is_not(kind: Any, status: int) -> None:
    """One attempt."""
    server = Scripted(reply(status), GOOD)
    with kind(server.url) as client, pytest.raises(Exception, match="words"):
        client.predict("m", [{"x": 1}])
    assert server.asked == 1
    server.close()


def test_a_retry_must_fit_the_deadline_and_the_budget(kind: Any) -> None:
    """A server that says to come back too late is not asked again, nor when the budget is spent."""
    server = Scripted(reply(429, b'{"error": "words"}', "Retry-After: 60"), reply(503))
    with kind(server.url, timeout_s=5.0, budget=RetryBudget(0.0, 0.0)) as client:
        for _ in range(2):
            with pytest.raises(Exception, match="words"):
                client.predict("m", [{"x": 1}])
    assert server.asked == 2
    server.close()


GOOD_HEAD = GOOD.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
STALLS = {
    "silence": (b"", 0.0),
    "a head that drips": (GOOD_HEAD, 0.05),
    "a body that drips": (GOOD_HEAD + b" " * 1000, 0.05),
}


@pytest.mark.parametrize("stall", STALLS)
def test_a_call_is_over_at_its_deadline_whatever_comes(kind: Any, stall: str) -> None:
    """A server that says nothing, or a byte now and then, holds nobody longer."""
    content, pause_s = STALLS[stall]
    is_over = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(1 << 16)
            for byte in content:
                connection.sendall(bytes([byte]))
                if is_over.wait(pause_s):
                    return
            is_over.wait(20)

    with dripping(drip) as url, kind(url) as client:
        start_s = time.monotonic()
        with pytest.raises(DeadlineError, match="must answer before the deadline"):
            client.predict("m", [{"x": 1}], timeout_s=0.4)
        assert time.monotonic() - start_s < 1.0
        is_over.set()


def test_a_look_up_that_takes_for_ever_is_over_at_the_deadline_too(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name servers that do not answer: the C library asks them for a quarter of a minute and more."""
    released = threading.Event()

    def look_up(*_: Any, **__: Any) -> Any:
        released.wait(30)
        raise socket.gaierror("nobody told")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    began_s = time.monotonic()
    with kind("http://models.example:8000", timeout_s=0.5) as client:
        with pytest.raises(DeadlineError):
            client.infer("m", {"features": ROWS})
        assert time.monotonic() - began_s < 3
        released.set()


@pytest.mark.parametrize("host", ["nobody.invalid", "a" * 70 + ".example"])
def test_a_name_that_nobody_has_is_told(kind: Any, host: str) -> None:
    """At once, or when the deadline is over where there is no network to ask."""
    with kind(f"http://{host}:8000", timeout_s=2) as client, pytest.raises((ConnectionLostError, DeadlineError)):
        client.infer("m", {"features": ROWS})


def test_a_large_request_is_over_at_its_deadline_too(kind: Any) -> None:
    """A server that takes a little of it now and then."""
    is_over = threading.Event()

    def sip(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            while not is_over.wait(0.05):
                connection.recv(1000)

    with dripping(sip) as url, kind(url) as client:
        start_s = time.monotonic()
        with pytest.raises(DeadlineError):
            client.infer("m", {"x": np.zeros((4, 1 << 20))}, timeout_s=0.4)
        assert time.monotonic() - start_s < 1.5
        is_over.set()


@contextmanager
def dripping(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that talks so with each who comes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_a_call_without_an_end_is_answered(kind: Any, server: LiveServer) -> None:
    """More patience than a timer can count; no number of seconds is a mistake."""
    with kind(server.url, timeout_s=float("inf")) as client:
        assert client.infer("m", {"features": ROWS})["label"].shape == (2,)
        with pytest.raises(ConfigError, match="got nan"):
            client.infer("m", {"features": ROWS}, timeout_s=float("nan"))
    with pytest.raises(ConfigError, match="more than 0, got nan"):
        Client(server.url, timeout_s=float("nan"))


BAD_TENSORS = (
    b'{"predictions": "ab", "outputs": [{"name": "x", "datatype": "INT64", "shape": [1], "data": [%s], '
    b'"parameters": %s}]}'
)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"predictions": 1}',
        b"\xff",
        BAD_TENSORS % (b"1", b"null"),
        BAD_TENSORS % (b"9" * 19, b"{}"),
    ],
)
def test_a_reply_that_is_none_is_told(kind: Any, body: bytes) -> None:
    """It is the server's failure."""
    server = Scripted(*[reply(200, body)] * 3)
    with kind(server.url) as client:
        with pytest.raises(ServerFailedError, match=r"must be (a list of )?predictions"):
            client.predict("m", [{"x": 1}])
        with pytest.raises(ServerFailedError, match="must be tensors"):
            client.infer("m", {"x": ROWS})
        with pytest.raises(ServerFailedError, match="must be metadata"):
            client.metadata("m")
    server.close()


def test_the_server_is_told_the_deadline() -> None:
    """In a header, in milliseconds, less than what the call may take."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                heard.append(connection.recv(1 << 16))
                connection.sendall(GOOD)

        thread = threading.Thread(target=serve)
        thread.start()
        with Client(f"http://127.0.0.1:{listener.getsockname()[1]}", headers={"x-own": "1"}) as client:
            client.predict("m", [{"x": 1}], timeout_s=2.0)
        thread.join()
    lines = dict(line.split(b": ", 1) for line in heard[0].split(b"\r\n\r\n")[0].split(b"\r\n")[1:])
    assert 1500 < int(lines[b"corelane-timeout-ms"]) <= 2000
    assert lines[b"x-own"] == b"1"


def test_the_server_is_told_no_more_than_it_takes() -> None:
    """A caller may be more patient than a server lets anybody be, without an end too."""
    for timeout_s in (7200.0, float("inf")):
        call = wire.infer_call("m", {"x": np.zeros((1, 1))}).within(timeout_s)
        assert dict(call.headers)[TIMEOUT_HEADER] == "3600000"


@pytest.mark.parametrize(("status", "headers", "waits_s"), [(429, {}, 1.0), (503, {"retry-after": "7"}, 7.0)])
def test_when_to_come_back_is_read_whatever_the_status(status: int, headers: dict[str, str], waits_s: float) -> None:
    """Servers that shed with 503, for clients that know no 429, say so too."""
    error = wire.error_of(status, headers, b'{"error": "full"}')
    assert isinstance(error, OverloadedError)
    assert error.retry_after_s == waits_s
    assert isinstance(wire.error_of(503, {}, b'{"error": "draining"}'), NotReadyError)
