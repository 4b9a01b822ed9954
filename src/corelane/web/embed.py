"""Granian inside our own process and event loop: it accepts, parses and keeps connections; we stop it gracefully.

The public `granian.server.embed.Server` is used and nothing below it; docs/decisions/002-granian-embedding.md has the
reasons.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from granian.constants import HTTPModes, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.embed import Server

from corelane.core.errors import WorkerLostError
from corelane.web.http import HttpApplication
from corelane.web.listen import Address
from corelane.web.tls import Tls

MAX_HEAD_BYTES = 64 << 10  # request line and headers; hyper answers 431 once twice as much has come at the latest
BACKLOG = 1024  # connections the kernel keeps while they wait to be accepted; the usual limit is 4096
ABORT_GRACE_S = 1.0  # for the last replies to leave after the drain's time is over

# Granian's own messages go to the root logger's last resort, the standard error stream, errors only.
_LOGGING = {"loggers": {"_granian": {"handlers": [], "propagate": True}}}


@dataclass(frozen=True, slots=True)
class Stopping:
    """How long a stopping server still serves while it reports not ready, and then how long requests may finish."""

    announce_s: float
    drain_timeout_s: float


class HttpServer:
    """Serves `application` at `address` in the running event loop, sharing the port with other workers."""

    def __init__(
        self,
        application: HttpApplication,
        address: Address,
        *,
        max_connections: int,
        header_timeout_s: float,
        tls: Tls | None = None,
    ) -> None:
        self._application = application
        self._listening = asyncio.Event()
        self._server = Server(
            self,
            address=address.ip,
            port=address.port,
            http=HTTPModes.http1,
            websockets=False,
            backlog=BACKLOG,
            backpressure=max_connections,
            http1_settings=HTTP1Settings(
                header_read_timeout=max(1, round(header_timeout_s * 1000)), max_buffer_size=MAX_HEAD_BYTES
            ),
            ssl_cert=None if tls is None else tls.certificate,
            ssl_key=None if tls is None else tls.key,
            ssl_protocol_min=SSLProtocols.tls12,
            log_level=LogLevels.error,
            log_dictconfig=_LOGGING,
        )
        self.__rsgi__ = application.__rsgi__

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called by Granian in the callback that then starts to listen, so the next callback finds it listening."""
        loop.call_soon(self._listening.set)

    async def run(self, stop: asyncio.Event, stopping: Stopping, on_listening: Callable[[], None]) -> bool:
        """Serve until `stop` is set, then drain; return whether every request was answered by its handler.

        Raises `WorkerLostError` when Granian cannot listen or ends by itself.
        """
        loop = asyncio.get_running_loop()
        serving = loop.create_task(self._server.serve(), name="granian")
        self._application.start_sweeping(loop)
        try:
            await self._until(serving, self._listening)
            on_listening()
            await self._until(serving, stop)
            self._application.is_draining = True
            await asyncio.wait((serving,), timeout=stopping.announce_s)
            self._server.stop()  # type: ignore[no-untyped-call]
            await asyncio.wait((serving,), timeout=stopping.drain_timeout_s)
            if serving.done():
                return True
            self._application.abort()
            await asyncio.wait((serving,), timeout=ABORT_GRACE_S)
            return False
        finally:
            self._application.stop_sweeping()

    async def _until(self, serving: asyncio.Task[None], event: asyncio.Event) -> None:
        waiting = asyncio.ensure_future(event.wait())
        await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if serving.done() or not self._server.wrks or not _is_alive(self._server.wrks[0]):
            raise WorkerLostError("the HTTP server must keep listening, got its end; see the messages above")


def _is_alive(worker: Any) -> bool:
    return bool(worker.is_alive())
