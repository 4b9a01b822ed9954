"""An HTTP application of a few handlers on a real socket in this process, and a client that sends plain bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from corelane.web.http import HttpApplication, Limits
from corelane.web.listen import reserve
from corelane.web.route import Route, Routes
from corelane.web.server import HttpServer, Stopping
from corelane.web.status import HTTP_STATUS, INTERNAL_ERROR, Failure

CONTRACT = frozenset({200, INTERNAL_ERROR, *HTTP_STATUS.values()})
"""Whatever a server is asked, it answers with one of these (docs/web.md)."""

LIMITS = Limits(max_body=1000, body_timeout_s=10.0, request_timeout_s=10.0)
STOPPING = Stopping(announce_s=0.0, drain_timeout_s=5.0)
HEAD = b"HTTP/1.1\r\nHost: test\r\n"


@dataclass
class Seen:
    """What the application told its observers."""

    statuses: list[int] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    failures: list[tuple[BaseException, Failure]] = field(default_factory=list)

    def observe(self, status: int, _elapsed_s: float) -> None:
        self.statuses.append(status)

    def report(self, error: BaseException, failure: Failure) -> None:
        self.failures.append((error, failure))


@dataclass
class Wire:
    """A listening application: its port, what was observed, and the switch that stops it."""

    port: int
    application: HttpApplication
    seen: Seen
    stop: asyncio.Event
    running: asyncio.Task[bool]

    async def send(self, request: bytes) -> bytes:
        """The reply to `request` on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        try:
            return await read_reply(reader)
        finally:
            writer.close()


async def read_reply(reader: asyncio.StreamReader) -> bytes:
    """One reply: head, and the body that its content-length announces."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert int(head[9:12]) in CONTRACT, head
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    return head + await asyncio.wait_for(reader.readexactly(length), 10)


@asynccontextmanager
async def listening(
    routes: Sequence[Route],
    seen: Seen,
    *,
    limits: Limits = LIMITS,
    stopping: Stopping = STOPPING,
    max_connections: int = 100,
    header_timeout_s: float = 5.0,
) -> AsyncIterator[Wire]:
    """Serve `routes` on a free port of loopback until the context ends."""
    application = HttpApplication(
        Routes(routes, lambda path: f"nothing at {path}"),
        limits,
        observe_unrouted=seen.observe,
        on_refusal=seen.refusals.append,
        report=seen.report,
    )
    stop, is_listening = asyncio.Event(), asyncio.Event()
    with reserve("127.0.0.1", 0) as address:
        server = HttpServer(application, address, max_connections=max_connections, header_timeout_s=header_timeout_s)
        running = asyncio.create_task(server.run(stop, stopping, is_listening.set))
        try:
            await asyncio.wait_for(is_listening.wait(), 10)
            yield Wire(address.port, application, seen, stop, running)
        finally:
            stop.set()
            await running
