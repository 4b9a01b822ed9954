"""`HttpServer`: listens, accepts as many connections as are allowed, and stops in order.

Everything runs in the event loop of whoever runs it. docs/decisions/023-http-in-the-event-loop.md has the reasons.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from corelane.web.connection import Connection
from corelane.web.http import HttpApplication
from corelane.web.listen import Address, listening_socket
from corelane.web.tls import Tls

ABORT_GRACE_S = 1.0  # for the last replies to leave after the drain's time is over
TICK_S = 0.25  # between two looks at all connections
REST_S = 0.1  # before connections are accepted again where the system has no file left for one


@dataclass(frozen=True, slots=True)
class Stopping:
    """How long a stopping server still serves while it reports not ready, and then how long requests may finish."""

    announce_s: float
    drain_timeout_s: float


class HttpServer:
    """Serves `application` at `address` in the running event loop, sharing the port with other workers.

    A path is a Unix socket's.

    At most `max_connections` are open; more wait in the system's queue. One that is idle, or has sent a part of a head,
    for `header_timeout_s` is closed, as is one whose client takes nothing of its reply for the time of a request.
    """

    def __init__(
        self,
        application: HttpApplication,
        address: Address | Path,
        *,
        max_connections: int,
        header_timeout_s: float,
        tls: Tls | None = None,
    ) -> None:
        self._application = application
        self._address = address
        self._max_connections = max_connections
        self._header_timeout_s = header_timeout_s
        self._tls: ssl.SSLContext | None = None if tls is None else tls.context()
        self._connections: set[Connection] = set()
        self._accepting: set[asyncio.Task[None]] = set()  # those whose TLS is being agreed upon, too
        self._socket: socket.socket | None = None
        self._is_reading = False
        self._is_empty = asyncio.Event()
        self.date = _date()

    async def run(self, stop: asyncio.Event, stopping: Stopping, on_listening: Callable[[], None]) -> bool:
        """Serve until `stop` is set, then drain; return whether every request was answered by its handler.

        Raises `PortInUseError` and `ConfigError` when it cannot listen.
        """
        loop = asyncio.get_running_loop()
        with listening_socket(self._address) as self._socket:
            self._resume()
            ticking = loop.create_task(self._tick(), name="tick")
            self._application.start_sweeping(loop)
            try:
                on_listening()
                await stop.wait()
                self._application.is_draining = True
                await asyncio.sleep(stopping.announce_s)
                self._accept()  # who is in the system's queue would be reset
                self._pause()
                self._socket.close()
                return await self._drained(stopping.drain_timeout_s)
            finally:
                ticking.cancel()
                self._application.stop_sweeping()
                self._pause()

    # --- connections --------------------------------------------------------------------------------------------------

    def connected(self, connection: Connection) -> None:
        """See `Listener.connected`."""
        self._connections.add(connection)

    def disconnected(self, connection: Connection) -> None:
        """See `Listener.disconnected`."""
        self._connections.discard(connection)
        self._see_to_room()

    def _see_to_room(self) -> None:
        """A connection less: more are accepted, or it was the last."""
        if not self._connections and not self._accepting:
            self._is_empty.set()
        if not self._application.is_draining:
            self._resume()

    def _resume(self) -> None:
        if self._socket is not None and not self._is_reading and self._has_room():
            self._is_reading = True
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept)

    def _pause(self) -> None:
        if self._socket is not None and self._is_reading:
            self._is_reading = False
            asyncio.get_running_loop().remove_reader(self._socket.fileno())

    def _has_room(self) -> bool:
        return len(self._connections) + len(self._accepting) < self._max_connections

    def _accept(self) -> None:
        """Accept all who wait, as long as there is room."""
        listener, loop = self._socket, asyncio.get_running_loop()
        while listener is not None and self._has_room():
            try:
                accepted, _ = listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError:  # no file left: those that are open go on
                self._pause()
                loop.call_later(REST_S, self._see_to_room)
                return
            task = loop.create_task(self._connect(accepted))
            self._accepting.add(task)
            task.add_done_callback(self._connected)
        self._pause()

    async def _connect(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Connection(self._application, self),
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else self._header_timeout_s,
            )
        except OSError:  # also of TLS: whoever that was does not speak it
            accepted.close()

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._accepting.discard(task)
        self._see_to_room()

    async def _tick(self) -> None:
        """Close connections that are over their time, and keep the date."""
        patience_s = self._application.limits.request_timeout_s
        while True:
            self.date = _date()
            now_s = self._application.monotonic()
            for connection in list(self._connections):
                if connection.ends_s < now_s or now_s - connection.stalled_since_s > patience_s:
                    connection.abort()
                elif now_s - connection.idle_since_s > self._header_timeout_s:
                    connection.time_out()
            await asyncio.sleep(TICK_S)

    # --- stopping -----------------------------------------------------------------------------------------------------

    async def _drained(self, timeout_s: float) -> bool:
        """Whether all that was under way is answered within `timeout_s`; what is not is told so."""
        for connection in list(self._connections):
            connection.drain()
        if await self._emptied(timeout_s):
            return True
        self._application.abort()
        await self._emptied(ABORT_GRACE_S)
        for connection in list(self._connections):
            connection.abort()
        return False

    async def _emptied(self, within_s: float) -> bool:
        self._is_empty.clear()
        if self._connections or self._accepting:
            waiting = asyncio.ensure_future(self._is_empty.wait())
            await asyncio.wait((waiting,), timeout=within_s)
            waiting.cancel()
        return not self._connections and not self._accepting


def _date() -> bytes:
    return formatdate(usegmt=True).encode()
