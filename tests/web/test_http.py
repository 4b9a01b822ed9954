"""The HTTP edge over real sockets: every refusal has its status, its JSON body, and costs nobody else anything."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Awaitable, Callable

import pytest

from corelane.core.errors import OverloadedError, RequestError
from corelane.web.exchange import Exchange
from corelane.web.http import Limits
from corelane.web.route import Route
from tests.web.wire import HEAD, Seen, Wire, listening, read_reply


def echo(exchange: Exchange, body: bytes) -> None:
    exchange.reply(body)


def silent(exchange: Exchange, body: bytes) -> None:
    pass


def refuse(exchange: Exchange, body: bytes) -> None:
    raise RequestError("the tea must be hot, got 20 degrees; heat it")


def shed(exchange: Exchange, body: bytes) -> None:
    raise OverloadedError("too many", retry_after_s=2.1)


def crash(exchange: Exchange, body: bytes) -> None:
    raise ZeroDivisionError("secret detail /etc/passwd")


def run(
    scenario: Callable[[Wire], Awaitable[None]], *, body_timeout_s: float = 10.0, request_timeout_s: float = 10.0
) -> Seen:
    seen = Seen()
    handlers = {"echo": echo, "silent": silent, "refuse": refuse, "shed": shed, "crash": crash}
    routes = [Route("POST", f"/{name}", handler, seen.observe) for name, handler in handlers.items()]
    routes.append(Route("GET", "/up", lambda exchange, _: exchange.reply(b"{}"), seen.observe))

    async def main() -> None:
        limits = Limits(1000, body_timeout_s, request_timeout_s)
        async with listening(routes, seen, limits=limits) as wire:
            await scenario(wire)

    asyncio.run(main())
    return seen


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    head = b"".join(header + b"\r\n" for header in headers)
    return b"POST " + path.encode() + b" " + HEAD + head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def status(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


def error(reply: bytes) -> str:
    message = json.loads(reply.split(b"\r\n\r\n", 1)[1])
    assert list(message) == ["error"]
    return str(message["error"])


REFUSED = {
    "unknown path": (b"GET /nowhere " + HEAD + b"\r\n", 404),
    "wrong method": (b"GET /echo " + HEAD + b"\r\n", 405),
    "unknown method": (b"BREW /echo " + HEAD + b"\r\n", 405),
    "refused by the handler": (post("/refuse", b"{}"), 400),
    "shed by the handler": (post("/shed", b"{}"), 429),
    "form instead of JSON": (post("/echo", b"a=1", b"Content-Type: application/x-www-form-urlencoded"), 415),
    "JSON in another charset": (post("/echo", b"{}", b"Content-Type: application/json; charset=latin-1"), 415),
    "an encoding nobody reads": (post("/echo", b"{}", b"Content-Encoding: br"), 415),
    "packed twice": (post("/echo", b"{}", b"Content-Encoding: gzip, gzip"), 415),
    "not packed": (post("/echo", b"{}", b"Content-Encoding: gzip"), 400),
    "packed and cut": (post("/echo", gzip.compress(b"{}" * 99)[:-9], b"Content-Encoding: gzip"), 400),
    "packed and more": (post("/echo", gzip.compress(b"{}") + b"x", b"Content-Encoding: gzip"), 400),
    "packed, two streams": (post("/echo", gzip.compress(b"{}") * 2, b"Content-Encoding: gzip"), 400),
    "one byte too long unpacked": (post("/echo", gzip.compress(b"x" * 1001), b"Content-Encoding: gzip"), 413),
    "a bomb": (post("/echo", gzip.compress(b"0" * 800_000), b"Content-Encoding: gzip"), 413),
    "a bomb of zlib's": (post("/echo", zlib.compress(b"0" * 900_000), b"Content-Encoding: deflate"), 413),
    "one byte too long": (post("/echo", b"x" * 1001), 413),
    "a gigabyte announced": (b"POST /echo " + HEAD + b"Content-Length: 1073741824\r\n\r\n", 413),
    "chunks beyond the limit": (
        b"POST /echo " + HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"200\r\n" + b"x" * 512 + b"\r\n") * 3,
        413,
    ),
    "handler crashed": (post("/crash", b"{}"), 500),
}


@pytest.mark.parametrize(("request_bytes", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_has_its_status_and_one_json_message(request_bytes: bytes, expected: int) -> None:
    """Each kind of refusal answers its own status with `{"error": ...}` and is observed under it, once."""

    async def scenario(wire: Wire) -> None:
        reply = await wire.send(request_bytes)
        assert status(reply) == expected
        assert error(reply)

    assert run(scenario).statuses == [expected]


ACCEPTED = {
    "no content type": post("/echo", b"{}"),
    "JSON": post("/echo", b"{}", b"Content-Type: application/json"),
    "JSON in UTF-8, spelt oddly": post("/echo", b"{}", b'Content-Type: Application/JSON; charset="UTF-8"'),
    "gzip": post("/echo", gzip.compress(b"{}"), b"Content-Encoding: gzip"),
    "gzip, as long as allowed": post("/echo", gzip.compress(b"x" * 1000), b"Content-Encoding: GZIP"),
    "deflate": post("/echo", zlib.compress(b"{}"), b"Content-Encoding: deflate"),
    "binary tensors": post("/echo", b"{}", b"Content-Type: application/octet-stream"),
    "identity encoding": post("/echo", b"{}", b"Content-Encoding: identity"),
    "chunked": b"POST /echo " + HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
    "as long as allowed": post("/echo", b"x" * 1000),
    "without a body": b"POST /echo " + HEAD + b"\r\n",
}


def test_a_packed_body_reaches_the_handler_unpacked() -> None:
    """Byte for byte, whatever packed it."""

    async def scenario(wire: Wire) -> None:
        for pack, encoding in ((gzip.compress, b"gzip"), (zlib.compress, b"deflate")):
            reply = await wire.send(post("/echo", pack(b"x" * 700), b"Content-Encoding: " + encoding))
            assert reply.endswith(b"\r\n\r\n" + b"x" * 700)

    run(scenario)


@pytest.mark.parametrize("request_bytes", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_is_within_the_limits_reaches_the_handler(request_bytes: bytes) -> None:
    """Every allowed framing and content type delivers the same bytes to the handler."""

    async def scenario(wire: Wire) -> None:
        assert status(await wire.send(request_bytes)) == 200

    assert run(scenario).statuses == [200]


def test_a_crash_is_opaque_to_the_caller_and_known_to_the_log() -> None:
    """The caller of a failed handler gets an id and nothing else; the log gets the error under that id."""
    replies: list[bytes] = []

    async def scenario(wire: Wire) -> None:
        replies.append(await wire.send(post("/crash", b"{}")))

    seen = run(scenario)
    [(cause, failure)] = seen.failures
    assert isinstance(cause, ZeroDivisionError)
    assert failure.error_id is not None
    assert failure.error_id in error(replies[0])
    assert b"secret" not in replies[0]
    assert b"passwd" not in replies[0]


def test_shed_requests_are_told_when_to_come_back() -> None:
    """A 429 carries Retry-After in whole seconds, rounded up; the refusal is counted by its code."""

    async def scenario(wire: Wire) -> None:
        assert b"retry-after: 3" in (await wire.send(post("/shed", b"{}"))).lower()

    assert run(scenario).refusals == ["overloaded"]


def test_a_405_names_the_methods_that_are_allowed() -> None:
    """The Allow header of a 405 lists what the path answers."""

    async def scenario(wire: Wire) -> None:
        assert b"\r\nallow: POST\r\n" in await wire.send(b"DELETE /echo " + HEAD + b"\r\n")

    run(scenario)


FRAMINGS = (
    b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
)


@pytest.mark.parametrize("framings", FRAMINGS)
def test_a_second_framing_cannot_smuggle_a_request(framings: bytes) -> None:
    """Both framings at once are refused and the connection is closed: what follows is never taken for a request."""
    request = b"POST /echo " + HEAD + framings + b"\r\n2\r\n{}\r\n0\r\n\r\n"

    async def scenario(wire: Wire) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(request + post("/crash", b"{}"))
        reply = await asyncio.wait_for(reader.read(), 5)
        assert status(reply) == 400
        assert reply.count(b"HTTP/1.1 4") == 1
        writer.close()

    assert run(scenario).statuses == [400]


def test_a_flood_of_tiny_chunks_is_refused() -> None:
    """A body in thousands of one-byte chunks is cut off although its size is within the limit."""
    seen = Seen()
    routes = [Route("POST", "/echo", echo, seen.observe)]

    async def main() -> None:
        limits = Limits(max_body=1 << 20, body_timeout_s=10.0, request_timeout_s=10.0)
        async with listening(routes, seen, limits=limits) as wire:
            reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
            writer.write(b"POST /echo " + HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(3000):
                writer.write(b"1\r\nx\r\n")
            assert status(await read_reply(reader)) == 400
            writer.close()

    asyncio.run(main())


def test_a_head_beyond_its_limit_is_431() -> None:
    """Headers over 64 KiB are answered 431, and the connection is closed."""

    async def scenario(wire: Wire) -> None:
        assert status(await wire.send(b"GET /up " + HEAD + b"X-Long: " + b"a" * 300_000 + b"\r\n\r\n")) == 431

    assert run(scenario).statuses == [431]


def test_a_slow_body_is_408_and_its_connection_closed() -> None:
    """A body that stops arriving is answered 408 after the time-out, while another request is served meanwhile."""

    async def scenario(wire: Wire) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(b"POST /echo " + HEAD + b"Content-Length: 10\r\n\r\nabc")
        assert status(await wire.send(post("/echo", b"{}"))) == 200
        assert status(await read_reply(reader)) == 408
        assert await reader.read() == b""
        writer.close()

    assert run(scenario, body_timeout_s=0.2).statuses == [200, 408]


def test_an_answer_that_does_not_come_is_504() -> None:
    """A request whose handler does not answer within the time-out gets 504, and a later answer is dropped."""
    held: list[Exchange] = []
    seen = Seen()

    async def main() -> None:
        routes = [Route("POST", "/hold", lambda exchange, _: held.append(exchange), seen.observe)]
        limits = Limits(max_body=1000, body_timeout_s=10.0, request_timeout_s=0.2)
        async with listening(routes, seen, limits=limits) as wire:
            assert status(await wire.send(post("/hold", b"{}"))) == 504
            held[0].reply(b"late")

    asyncio.run(main())
    assert seen.statuses == [504]


def test_a_client_that_leaves_is_counted_and_nothing_breaks() -> None:
    """A client that hangs up in the middle of its body is counted as 499; the next one is served."""

    async def scenario(wire: Wire) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(b"POST /echo " + HEAD + b"Content-Length: 10\r\n\r\nabc")
        await writer.drain()
        while not wire.application.num_open:
            await asyncio.sleep(0.01)
        writer.close()
        while wire.application.num_open:
            await asyncio.sleep(0.01)
        assert status(await wire.send(post("/echo", b"{}"))) == 200

    assert run(scenario).statuses == [499, 200]


def test_a_connection_stays_in_step_after_a_refusal() -> None:
    """Refused, crashed and served requests follow each other on one connection, each reply the one to its request."""

    async def scenario(wire: Wire) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        for path, expected in (("/refuse", 400), ("/echo", 200), ("/crash", 500), ("/nowhere", 404), ("/echo", 200)):
            writer.write(post(path, b'{"at": "%s"}' % path.encode()))
            reply = await read_reply(reader)
            assert status(reply) == expected
            assert expected != 200 or reply.endswith(b'{"at": "/echo"}')
        writer.close()

    run(scenario)


def test_what_is_shed_may_have_another_status() -> None:
    """For clients that know no 429; when to come back is told all the same, and other statuses stay."""

    async def scenario(wire: Wire) -> None:
        wire.application.shed_status = 503
        reply = await wire.send(post("/shed", b"{}"))
        assert status(reply) == 503
        assert b"retry-after: 3" in reply.lower()
        assert status(await wire.send(post("/refuse", b"{}"))) == 400

    assert run(scenario).statuses == [503, 400]
