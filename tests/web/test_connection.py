"""One connection over a real socket: what HTTP/1.1 lets a client do, the order of its answers, and where it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from corelane.core.errors import ForbiddenError
from corelane.web.exchange import Exchange
from corelane.web.head import MAX_HEADERS
from corelane.web.http import Limits
from corelane.web.route import Route
from tests.web.test_http import echo, error, post, status
from tests.web.wire import HEAD, Seen, Wire, listening, read_reply

GET = b"GET /up " + HEAD + b"\r\n"


def run(scenario: Callable[[Wire, list[Exchange]], Awaitable[None]], **options: Any) -> Seen:
    """Run `scenario` beside a server of `/echo`, `/up` and `/hold`, whose exchanges are held in a list."""
    seen, held = Seen(), list[Exchange]()
    routes = [
        Route("POST", "/echo", echo, seen.observe),
        Route("POST", "/hold", lambda exchange, _: held.append(exchange), seen.observe),
        Route("GET", "/up", lambda exchange, _: exchange.reply(b'"up"'), seen.observe),
        Route("GET", "/a b", lambda exchange, _: exchange.reply(b'"a b"'), seen.observe),
    ]

    async def main() -> None:
        async with listening(routes, seen, **options) as wire:
            await scenario(wire, held)

    asyncio.run(main())
    return seen


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_requests_sent_together_are_answered_in_order() -> None:
    """Whatever takes long: who was sent first is answered first, and a handler is called when those before are done."""

    async def scenario(wire: Wire, held: list[Exchange]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(GET + post("/hold", b"1") + GET + post("/hold", b"2") + post("/echo", b"last"))
        assert (await read_reply(reader)).endswith(b'"up"')
        await until(lambda: held)
        assert wire.application.num_open == 1
        held[0].reply(b"first held")
        assert (await read_reply(reader)).endswith(b"first held")
        assert (await read_reply(reader)).endswith(b'"up"')
        await until(lambda: len(held) == 2)
        held[1].reply(b"second held")
        assert (await read_reply(reader)).endswith(b"second held")
        assert (await read_reply(reader)).endswith(b"last")
        writer.write(GET)
        assert status(await read_reply(reader)) == 200
        writer.close()

    run(scenario)


def test_thousands_of_requests_at_once_are_answered_one_by_one() -> None:
    """A flood in one piece neither nests nor loses one."""

    async def scenario(wire: Wire, held: list[Exchange]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(post("/hold", b"") + GET * 3000)
        await until(lambda: held)
        held[0].reply(b"held")
        for _ in range(3001):
            assert status(await read_reply(reader)) == 200
        writer.close()

    run(scenario)


@pytest.mark.parametrize("size", [1, 7, 60])
def test_a_request_may_come_in_pieces(size: int) -> None:
    """Cut anywhere, it is the same request."""

    async def scenario(wire: Wire, held: list[Exchange]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        request = post("/echo", b"0123456789", b"Content-Type: application/json") + GET
        for start in range(0, len(request), size):
            writer.write(request[start : start + size])
            await asyncio.sleep(0)
        assert (await read_reply(reader)).endswith(b"0123456789")
        assert (await read_reply(reader)).endswith(b'"up"')
        writer.close()

    run(scenario)


def of_length(body: bytes, *headers: bytes, length: int | None = None) -> bytes:
    """A request to `/echo`; `length` is what it says of its body."""
    told = b"Content-Length: %d\r\n" % (len(body) if length is None else length)
    return b"POST /echo " + HEAD + told + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body


AGAIN = {
    "the same": [of_length(b"one"), of_length(b"two"), of_length(b"six")],
    "another length": [of_length(b"one"), of_length(b"four"), of_length(b"one")],
    "a body that looks like a head": [of_length(b"a\r\n\r\nb"), of_length(b"\r\n\r\n12"), of_length(b"123456")],
    "no body": [of_length(b""), of_length(b""), GET, of_length(b"")],
    "another path": [of_length(b"1"), GET, of_length(b"2"), GET],
    "blank lines before": [b"\r\n" + of_length(b"one"), b"\r\n" + of_length(b"two"), of_length(b"six")],
    "blank lines behind": [of_length(b"\r\nab") + b"\r\n", of_length(b"\r\ncd") + b"\r\n", of_length(b"12345\r")],
    "two at once": [of_length(b"1"), of_length(b"2") + of_length(b"3"), of_length(b"4") * 3, of_length(b"5")],
    "in chunks": [
        b"POST /echo " + HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\n%s\r\n0\r\n\r\n" % x for x in (b"abc", b"def")
    ],
    "one that asks to go on": [of_length(b"one", b"Expect: 100-continue")] * 2,
    "one that wants another protocol": [of_length(b"one", b"Upgrade: h2c", b"Connection: Upgrade")] * 2,
    "the last of them": [of_length(b"one"), of_length(b"two", b"Connection: close")],
}


@pytest.mark.parametrize("case", AGAIN)
def test_a_request_that_comes_again_is_read_as_the_first_time(case: str) -> None:
    """What a connection knows of the request before changes nothing: whole reads and cut ones are answered alike."""

    async def answers(wire: Wire, pieces: list[bytes], pause_s: float) -> list[bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        told = b""
        with suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        told += await reader.read(1 << 16)
            writer.write_eof()
        told += await asyncio.wait_for(reader.read(), 5)
        writer.close()
        told = told.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")  # told to who has not sent a body yet
        return [line for line in told.split(b"\r\n") if not line.startswith(b"date:")]

    async def scenario(wire: Wire, _held: list[Exchange]) -> None:
        requests = AGAIN[case] * (1 if case == "the last of them" else 2)
        stream = b"".join(requests)
        whole = await answers(wire, requests, 0.02)
        cut = await answers(wire, [stream[place : place + 3] for place in range(0, len(stream), 3)], 0.001)
        assert whole == cut

    run(scenario)


def answering(text: bytes) -> Route:
    return Route("POST", "/infer", lambda exchange, _: exchange.reply(text), lambda *_: None)


def test_a_request_that_comes_again_finds_the_route_that_there_is_now() -> None:
    """It is not looked for while none has changed; then it is, gone or another."""
    first, second = answering(b"first"), answering(b"second")

    async def main() -> list[bytes]:
        async with listening([first], Seen()) as wire:
            routes = wire.application._routes
            reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
            replies = []

            async def ask(times: int) -> None:
                for _ in range(times):
                    writer.write(post("/infer", b"{}"))
                    reply = await read_reply(reader)
                    replies.append(reply[9:12] + reply.partition(b"\r\n\r\n")[2][:6])

            await ask(4)
            routes.drop([first])
            await ask(3)
            routes.add([second])
            await ask(4)
            writer.close()
            return replies

    replies = asyncio.run(main())
    assert replies == [b"200first"] * 4 + [b'404{"erro'] * 3 + [b"200second"] * 4


class Turnstile:
    """A guard that lets so many through."""

    def __init__(self, num_allowed: int) -> None:
        self.num_left = num_allowed

    def check(self, authorization: str | None, scope: str) -> None:
        del authorization, scope
        self.num_left -= 1
        if self.num_left < 0:
            raise ForbiddenError("no more")


def test_a_request_that_comes_again_is_asked_for_its_right_again() -> None:
    """A token may have been taken back meanwhile."""

    async def main() -> list[bytes]:
        async with listening([answering(b"welcome")], Seen()) as wire:
            wire.application._guard = Turnstile(3)
            reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
            statuses = []
            for _ in range(5):
                writer.write(post("/infer", b"{}"))
                statuses.append((await read_reply(reader))[9:12])
            writer.close()
            return statuses

    assert asyncio.run(main()) == [b"200"] * 3 + [b"403"] * 2


def test_a_wish_for_another_protocol_is_passed_over() -> None:
    """A body behind it is the request's, and so is what follows it, however often it is wished for."""
    wish = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAA")

    async def scenario(wire: Wire, held: list[Exchange]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(post("/echo", GET, *wish) * 2 + GET + post("/echo", b"tail", *wish)[:-2])
        assert (await read_reply(reader)).endswith(GET)
        assert (await read_reply(reader)).endswith(GET)
        assert (await read_reply(reader)).endswith(b'"up"')
        writer.write(b"il")
        assert (await read_reply(reader)).endswith(b"tail")
        writer.close()

    assert run(scenario).statuses == [200] * 4


def test_who_waits_to_be_told_to_go_on_is_told() -> None:
    """`Expect: 100-continue` is answered before the body comes, unless the request is refused without it."""

    async def scenario(wire: Wire, held: list[Exchange]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(post("/echo", b"later", b"Expect: 100-continue")[:-5])
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"l")
        await asyncio.sleep(0.01)
        writer.write(b"ater")
        assert (await read_reply(reader)).endswith(b"later")
        writer.write(post("/nowhere", b"later", b"Expect: 100-continue")[:-5])
        reply = await read_reply(reader)
        assert status(reply) == 404
        assert b"connection: close" in reply.lower()
        writer.close()

    run(scenario)


def test_a_head_is_answered_by_a_head() -> None:
    """HEAD gets no body, so that the connection stays in step; here no path answers it but by 405."""

    async def scenario(wire: Wire, held: list[Exchange]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(b"HEAD /up " + HEAD + b"\r\n" + GET)
        assert status(await reader.readuntil(b"\r\n\r\n")) == 405
        assert (await read_reply(reader)).endswith(b'"up"')
        writer.close()

    run(scenario)


CLOSING = {
    "close": b"GET /up " + HEAD + b"Connection: close\r\n\r\n",
    "HTTP/1.0": b"GET /up HTTP/1.0\r\n\r\n",
    "HTTP/1.0, kept": b"GET /up HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", CLOSING.values(), ids=CLOSING.keys())
def test_a_last_request_ends_the_connection(request_bytes: bytes) -> None:
    """It is answered, told to be the last, and nothing behind it is read."""

    async def scenario(wire: Wire, held: list[Exchange]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(request_bytes + GET)
        reply = await asyncio.wait_for(reader.read(), 5)
        assert status(reply) == 200
        assert reply.count(b"HTTP/1.1 ") == 1
        assert b"connection: close" in reply.lower()
        writer.close()

    assert run(scenario).statuses == [200]


BAD_HEADS = {
    "no host": b"GET /up HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /up " + HEAD + b"Host: other\r\n\r\n",
    "HTTP/0.9": b"GET /up\r\n\r\n",
    "packed transfer": b"POST /echo " + HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "bare line feeds": b"GET /up HTTP/1.1\nHost: test\n\n",
    "a space in the target": b"GET /u p " + HEAD + b"\r\n",
}


@pytest.mark.parametrize("request_bytes", BAD_HEADS.values(), ids=BAD_HEADS.keys())
def test_a_head_that_is_not_http_to_the_letter_is_400(request_bytes: bytes) -> None:
    """With one reply, and the end of the connection: what is behind it may be anything."""

    async def scenario(wire: Wire, held: list[Exchange]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(request_bytes + GET)
        reply = await asyncio.wait_for(reader.read(), 5)
        assert status(reply) == 400
        assert error(reply)
        assert reply.count(b"HTTP/1.1 4") == 1
        writer.close()

    assert run(scenario).statuses == [400]


def test_what_is_broken_is_refused_after_what_came_before_it() -> None:
    """A held request ahead of it is answered first, then the 400 ends the connection."""

    async def scenario(wire: Wire, held: list[Exchange]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(post("/hold", b"") + b"nonsense\r\n\r\n")
        await until(lambda: held)
        held[0].reply(b"held")
        assert (await read_reply(reader)).endswith(b"held")
        assert status(await asyncio.wait_for(reader.read(), 5)) in (400, 405)
        writer.close()

    run(scenario)


def test_the_number_of_headers_is_bounded() -> None:
    """As many as allowed pass, one more is 431; so it is for trailers."""

    def asked(num_headers: int) -> bytes:
        return b"GET /up " + HEAD + b"".join(b"X-%d: y\r\n" % index for index in range(num_headers - 1)) + b"\r\n"

    async def scenario(wire: Wire, held: list[Exchange]) -> None:
        assert status(await wire.send(asked(MAX_HEADERS))) == 200
        assert status(await wire.send(asked(MAX_HEADERS + 1))) == 431
        trailers = b"".join(b"X-%d: y\r\n" % index for index in range(MAX_HEADERS + 1))
        chunked = b"POST /echo " + HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
        assert status(await wire.send(chunked + b"X: y\r\n\r\n")) == 200
        assert status(await wire.send(chunked + trailers + b"\r\n")) == 431

    run(scenario)


def test_the_bytes_of_trailers_are_bounded() -> None:
    """One that never ends is 431 before it has taken memory, and so is what stands for no chunk."""

    async def scenario(wire: Wire, held: list[Exchange]) -> None:
        chunked = b"POST /echo " + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        for endless in (b"0\r\nX: " + b"y" * 600_000, b"1;" + b"y" * 600_000):
            reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
            writer.write(chunked + endless)
            assert status(await read_reply(reader)) == 431
            writer.close()

    run(scenario)


def test_targets_are_decoded_once() -> None:
    """A path in percent signs, and one behind a scheme and a host as proxies ask for it."""

    async def scenario(wire: Wire, held: list[Exchange]) -> None:
        for target in (b"/a%20b", b"/a%20b?c=d", b"http://else/a%20b"):
            assert (await wire.send(b"GET " + target + b" " + HEAD + b"\r\n")).endswith(b'"a b"')
        assert status(await wire.send(b"GET /a%2520b " + HEAD + b"\r\n")) == 404
        assert status(await wire.send(b"GET * " + HEAD + b"\r\n")) == 404
        assert status(await wire.send(b"CONNECT up:80 " + HEAD + b"\r\n")) in (400, 404)

    run(scenario)


def test_who_idles_is_hung_up_on_and_who_dawdles_is_told() -> None:
    """After the time for a head: in silence where none has begun, with 408 where a part has come."""

    async def scenario(wire: Wire, held: list[Exchange]) -> None:
        idle, idle_writer = await asyncio.open_connection("127.0.0.1", wire.port)
        slow, slow_writer = await asyncio.open_connection("127.0.0.1", wire.port)
        slow_writer.write(GET + b"GET /up HTT")
        assert status(await read_reply(slow)) == 200
        assert await asyncio.wait_for(idle.read(), 5) == b""
        assert status(await asyncio.wait_for(slow.read(), 5)) == 408
        idle_writer.close()
        slow_writer.close()

    run(scenario, header_timeout_s=0.2)


def test_a_client_that_takes_nothing_is_cut_off() -> None:
    """A reply that nobody reads holds its memory no longer than a request may take."""
    seen = Seen()
    routes = [Route("GET", "/large", lambda exchange, _: exchange.reply(b"x" * (32 << 20)), seen.observe)]

    async def main() -> None:
        limits = Limits(max_body=1000, body_timeout_s=10.0, request_timeout_s=0.2)
        async with listening(routes, seen, limits=limits, max_connections=1) as wire:
            _, writer = await asyncio.open_connection("127.0.0.1", wire.port, limit=1024)
            writer.write(b"GET /large " + HEAD + b"\r\n")
            # There is room for one connection: another is accepted when the first is cut.
            assert status(await asyncio.wait_for(wire.send(b"GET /up " + HEAD + b"\r\n"), 10)) == 404
            writer.close()

    asyncio.run(main())


def test_more_connections_than_allowed_wait() -> None:
    """They are answered when there is room for them; none is refused."""

    async def scenario(wire: Wire, held: list[Exchange]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(post("/hold", b""))
        await until(lambda: held)
        waiting = [
            asyncio.create_task(wire.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))) for _ in range(5)
        ]
        await asyncio.sleep(0.05)
        assert wire.application.num_open == 1
        held[0].reply(b"held")
        await read_reply(reader)
        writer.close()
        assert [status(reply) for reply in await asyncio.gather(*waiting)] == [200] * 5

    run(scenario, max_connections=1)


def test_a_client_that_is_still_sending_sees_why_it_was_refused() -> None:
    """A body that is too large is refused unread, and the connection is not reset before its client has the reply."""

    async def scenario(wire: Wire, held: list[Exchange]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(b"POST /echo " + HEAD + b"Content-Length: 600000\r\n\r\n" + b"x" * 300_000)
        await writer.drain()
        writer.write(b"x" * 300_000)
        reply = await asyncio.wait_for(reader.read(), 5)
        assert status(reply) == 413
        writer.close()

    run(scenario)


def test_whoever_works_for_a_client_that_left_is_told() -> None:
    """At once, and the request is counted as 499."""
    gone: list[str] = []

    async def scenario(wire: Wire, held: list[Exchange]) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(post("/hold", b""))
        await until(lambda: held)
        held[0].when_gone = lambda: gone.append("gone")
        writer.close()
        await until(lambda: gone)
        held[0].reply(b"late")

    assert run(scenario).statuses == [499]
