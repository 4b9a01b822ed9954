"""A load on a server, in one event loop: each request is sent at its time, whatever became of those before it.

A latency runs from the time at which a request should have been sent to its whole answer, so that a generator that lags
behind shows it. Connections are kept, and more are opened while all are busy. HTTP is parsed by httptools.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools
import numpy as np

from corelane.client.wire import Call
from corelane.core.errors import ConfigError
from corelane.core.types import Array

LOST = 0
"""The status of a request whose connection broke or could not be made."""

UNANSWERED = -1
"""The status of a request that had no answer when the load was over and its patience too."""

UNSENT = -2
"""The status of a request that was due and never sent: no connection was free, nor could another be made."""

MAX_CONNECTIONS = 4096
TIMER_S = 0.0015  # event loops wake up by the millisecond: the rest is waited for awake


@dataclass(frozen=True)
class Outcome:
    """What became of n requests: when each was due (seconds from the start), its latency in seconds, its HTTP status
    (`LOST`, `UNANSWERED`, `UNSENT`), and by how many seconds it was sent late (not a number: it was not).
    """

    due_s: Array
    latency_s: Array
    status: Array
    lag_s: Array


def joined(outcomes: Sequence[Outcome]) -> Outcome:
    """Several at once as one."""
    columns = {
        name: np.concatenate([getattr(one, name) for one in outcomes])
        for name in ("due_s", "latency_s", "status", "lag_s")
    }
    return Outcome(**columns)


async def run_load(
    url: str,
    calls: Sequence[Call],
    due_s: Array,
    *,
    patience_s: float = 30.0,
    max_connections: int = MAX_CONNECTIONS,
) -> Outcome:
    """Send `calls` over and over to the server at `url`, one at each of the times `due_s` [n] from now on.

    Where all of `max_connections` are busy, what is due waits for one, and its latency with it. Returns when all are
    answered, or `patience_s` after the last. Raises `ConfigError` for a URL that is none.
    """
    load = _Load(url, calls, due_s, max_connections)
    await load.run(patience_s)
    return load.outcome()


class _Load:
    """Owns the connections and what was seen."""

    def __init__(self, url: str, calls: Sequence[Call], due_s: Array, max_connections: int) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            raise ConfigError(f"the server's URL must be http://host:port or https://host:port, got {url!r}")
        self._host, self._port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._requests = [_bytes_of(call, parts.netloc, parts.path.rstrip("/")) for call in calls]
        self._due_s = due_s
        self._latency_s = np.full(len(due_s), np.nan)
        self._lag_s = np.full(len(due_s), np.nan)
        self._status = np.full(len(due_s), UNSENT, dtype=np.int64)
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._waiting: deque[int] = deque()
        self._max_connections = max_connections
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening = 0
        self._left = len(due_s)
        self._done = asyncio.Event()
        self._start_s = 0.0
        self._is_over = False

    async def run(self, patience_s: float) -> None:
        self._start_s = time.monotonic()
        for index, due_s in enumerate(self._due_s.tolist()):
            await self._until(self._start_s + due_s, is_turn=index % 64 == 0)
            self._send(index)
        try:
            async with asyncio.timeout(patience_s):
                await self._done.wait()
        except TimeoutError:
            pass
        self._is_over = True
        for connection in list(self._all):
            connection.close()

    async def _until(self, due_s: float, *, is_turn: bool) -> None:
        """Wait for a time. Where it has passed, answers are read all the same when it is their turn."""
        wait_s = due_s - time.monotonic()
        if wait_s > TIMER_S:
            await asyncio.sleep(wait_s - TIMER_S)
        while is_turn or time.monotonic() < due_s:
            await asyncio.sleep(0)
            is_turn = False

    def outcome(self) -> Outcome:
        return Outcome(self._due_s, self._latency_s, self._status, self._lag_s)

    def _send(self, index: int) -> None:
        if self._idle:
            self._write(self._idle.pop(), index)
            return
        self._waiting.append(index)
        self._open_another()

    def _open_another(self) -> None:
        """Make a connection for who waits, if there may be one more."""
        if len(self._all) + self._opening < self._max_connections and not self._is_over:
            self._opening += 1
            task = asyncio.get_running_loop().create_task(self._open())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self) -> None:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self), self._host, self._port, ssl=self._tls
            )
        except (OSError, UnicodeError):  # the second of a name that cannot be one
            if self._waiting:
                self._answered(self._waiting.popleft(), LOST)
            return
        finally:
            self._opening -= 1
        if self._is_over:
            connection.close()
            return
        self._all.add(connection)
        self.free(connection)

    def _write(self, connection: _Connection, index: int) -> None:
        now_s = time.monotonic()
        self._lag_s[index] = now_s - self._start_s - self._due_s[index]
        self._status[index] = UNANSWERED
        connection.send(index, self._requests[index % len(self._requests)])

    def free(self, connection: _Connection) -> None:
        """A connection has nothing to do."""
        if self._waiting:
            self._write(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: _Connection, index: int | None) -> None:
        """A connection is gone, and maybe a request with it."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if index is not None:
            self._answered(index, LOST)
        if len(self._waiting) > self._opening:
            self._open_another()

    def answered(self, connection: _Connection, index: int, status: int, *, is_kept: bool) -> None:
        """A whole answer has come."""
        self._answered(index, status)
        if is_kept:
            self.free(connection)
        else:
            connection.close()

    def _answered(self, index: int, status: int) -> None:
        if self._is_over:  # the connection was closed because there was no answer
            return
        now_s = time.monotonic()
        self._latency_s[index] = now_s - self._start_s - self._due_s[index]
        self._status[index] = status
        self._left -= 1
        if not self._left:
            self._done.set()


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._index: int | None = None
        self._parser = httptools.HttpResponseParser(self)

    def send(self, index: int, request: bytes) -> None:
        self._index = index
        self._parser = httptools.HttpResponseParser(self)
        if self._transport is not None:
            self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_message_complete(self) -> None:
        index, self._index = self._index, None
        if index is not None:
            status, is_kept = self._parser.get_status_code(), self._parser.should_keep_alive()
            self._load.answered(self, index, status, is_kept=is_kept)

    def connection_lost(self, _: Exception | None) -> None:
        self._load.lost(self, self._index)


def _bytes_of(call: Call, host: str, base: str) -> bytes:
    """A request as it goes over the wire."""
    method = "GET" if call.body is None else "POST"
    lines = [
        f"{method} {base}{call.path} HTTP/1.1",
        f"host: {host}",
        *(f"{key}: {value}" for key, value in call.headers),
    ]
    if call.body is not None:
        lines.append(f"content-length: {len(call.body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (call.body or b"")
