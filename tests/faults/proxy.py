"""A TCP proxy that breaks connections on purpose: between a client under test and a real server."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from types import TracebackType
from typing import Self

_CHUNK_BYTES = 4096
_RST = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends a reset instead of an orderly end


class FaultProxy:
    """Forwards loopback connections to `target_port`. What it does to them may be changed between connections.

    `cut_after` lists, for the connections to come, after how many bytes from the server each is reset (None: never);
    beyond its end connections live. The reset waits for `may_cut`, which is set unless a test clears it.
    `is_refusing` resets every new connection at once; `is_stalling` accepts and forwards nothing.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cut_after: list[int | None] = []
        self.may_cut = threading.Event()
        self.may_cut.set()
        self.is_refusing = False
        self.is_stalling = False
        self.num_connections = 0
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        self._start(self._accept)

    def reset_all(self) -> None:
        """Reset every connection that is open now."""
        for connection in self._open:
            _reset(connection)

    def close(self) -> None:
        """Reset everything and wait for the threads."""
        self._is_closed = True
        self.may_cut.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset_all()
        for thread in self._threads:
            thread.join(timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.num_connections += 1
            self._open.append(client)
            if self.is_refusing:
                _reset(client)
                continue
            if self.is_stalling:
                continue
            limit = self.cut_after.pop(0) if self.cut_after else None
            try:
                server = socket.create_connection(("127.0.0.1", self._target_port), timeout=10)
            except OSError:
                _reset(client)
                continue
            server.settimeout(None)
            self._open.append(server)
            self._start(lambda c=client, s=server: _pump(c, s, None, self.may_cut))
            self._start(lambda c=client, s=server, n=limit: _pump(s, c, n, self.may_cut))

    def _start(self, target: object) -> None:
        thread = threading.Thread(target=target, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()


def _pump(source: socket.socket, sink: socket.socket, limit: int | None, may_cut: threading.Event) -> None:
    """Copy until the end, or until `limit` bytes have passed; then, once `may_cut` is set, reset both."""
    passed = 0
    try:
        while chunk := source.recv(_CHUNK_BYTES):
            if limit is not None and passed + len(chunk) >= limit:
                sink.sendall(chunk[: limit - passed])
                may_cut.wait(timeout=60)
                _reset(sink)
                _reset(source)
                return
            passed += len(chunk)
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        _reset(sink)
        _reset(source)


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
        connection.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        connection.close()
