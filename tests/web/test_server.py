"""Stopping the embedded server: what is under way finishes, what idles is closed, and nothing lasts for ever."""

from __future__ import annotations

import asyncio

import pytest

from corelane.web.exchange import Exchange
from corelane.web.route import Route
from corelane.web.server import Stopping
from tests.web.test_http import post, status
from tests.web.wire import HEAD, Seen, listening, read_reply


def test_a_request_under_way_finishes_while_the_server_drains() -> None:
    """After the stop a request in flight still gets its answer, told to close; an idle connection is closed at once."""
    held: list[Exchange] = []
    seen = Seen()
    routes = [
        Route("POST", "/hold", lambda exchange, _: held.append(exchange), seen.observe),
        Route("GET", "/up", lambda exchange, _: exchange.reply(b"{}"), seen.observe),
    ]

    async def main() -> None:
        async with listening(routes, seen) as wire:
            idle, idle_writer = await asyncio.open_connection("127.0.0.1", wire.port)
            idle_writer.write(b"GET /up " + HEAD + b"\r\n")
            assert status(await read_reply(idle)) == 200
            busy, busy_writer = await asyncio.open_connection("127.0.0.1", wire.port)
            busy_writer.write(post("/hold", b"{}"))
            while not held:
                await asyncio.sleep(0.01)
            wire.stop.set()
            assert await asyncio.wait_for(idle.read(), 5) == b""
            assert not wire.running.done()
            held[0].reply(b'"done"')
            reply = await read_reply(busy)
            assert status(reply) == 200
            assert b"connection: close" in reply.lower()
            assert await asyncio.wait_for(wire.running, 5) is True
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", wire.port)
            idle_writer.close()
            busy_writer.close()

    asyncio.run(main())


def test_the_drain_is_bounded() -> None:
    """A request that never finishes is answered 503 when the drain's time is over, and the server ends."""
    seen = Seen()
    routes = [Route("POST", "/hold", lambda _exchange, _body: None, seen.observe)]

    async def main() -> None:
        async with listening(routes, seen, stopping=Stopping(announce_s=0.0, drain_timeout_s=0.2)) as wire:
            sending = asyncio.create_task(wire.send(post("/hold", b"{}")))
            while not wire.application.num_open:
                await asyncio.sleep(0.01)
            wire.stop.set()
            assert status(await sending) == 503
            assert await asyncio.wait_for(wire.running, 5) is False

    asyncio.run(main())


def test_a_stopping_server_still_serves_while_it_announces() -> None:
    """During the announcement new requests are served with `Connection: close`, so that balancers turn away first."""
    seen = Seen()
    routes = [Route("GET", "/up", lambda exchange, _: exchange.reply(b"{}"), seen.observe)]

    async def main() -> None:
        async with listening(routes, seen, stopping=Stopping(announce_s=0.5, drain_timeout_s=1.0)) as wire:
            wire.stop.set()
            while not wire.application.is_draining:
                await asyncio.sleep(0)
            reply = await wire.send(b"GET /up " + HEAD + b"\r\n")
            assert status(reply) == 200
            assert b"connection: close" in reply.lower()

    asyncio.run(main())
