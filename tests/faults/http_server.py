"""An HTTP server that answers as a test says, byte for byte: right, slow, torn, changed or lying."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

_RST = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends a reset


@dataclass(frozen=True)
class Asked:
    """A request as it came: path with query, headers by lower-case name."""

    path: str
    headers: dict[str, str]


Answer = Callable[[Asked, socket.socket], None]
"""Writes whatever it likes to the connection, which is closed afterwards."""


def reply(body: bytes = b"", status: int = 200, *, length: int | None = None, **headers: str) -> Answer:
    """A plain answer; `length` may lie. Header names are given with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(asked: Asked, connection: socket.socket) -> None:
        lines = [
            f"HTTP/1.1 {status} x",
            f"Content-Length: {len(body) if length is None else length}",
            "Connection: close",
        ]
        lines += [f"{name}: {value}" for name, value in named.items()]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    return answer


def raw(data: bytes) -> Answer:
    """These very bytes."""
    return lambda asked, connection: connection.sendall(data)


def torn(answer: Answer, after: int) -> Answer:
    """`answer`, of whose body only `after` bytes are sent before the connection is reset."""

    def tear(asked: Asked, connection: socket.socket) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            sender = threading.Thread(target=lambda: (answer(asked, theirs), theirs.close()))
            sender.start()
            data = b"".join(iter(lambda: ours.recv(65536), b""))
            sender.join()
        head, _, body = data.partition(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n" + body[:after])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)

    return tear


@dataclass
class Content:
    """A file with a version: answers conditional and range requests as the standard says."""

    data: bytes
    etag: str = '"1"'
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(self, asked: Asked, connection: socket.socket) -> None:
        if asked.headers.get("if-none-match") == self.etag:
            return reply(status=304, ETag=self.etag)(asked, connection)
        match = re.match(r"bytes=(\d+)-$", asked.headers.get("range", ""))
        if match and asked.headers.get("if-range") == self.etag:
            first = int(match[1])
            part = f"bytes {first}-{len(self.data) - 1}/{len(self.data)}"
            return reply(self.data[first:], 206, Content_Range=part, ETag=self.etag)(asked, connection)
        return reply(self.data, ETag=self.etag, **self.headers)(asked, connection)


class FaultServer:
    """Serves `routes` by path without query on loopback. `script` answers the next requests first, whatever their path;
    `asked` lists what came.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.routes: dict[str, Answer] = {}
        self.script: list[Answer] = []
        self.asked: list[Asked] = []
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'http' if context is None else 'https'}://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """Stop listening and wait for the answers under way."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._answer, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ssl.SSLError):
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            asked = _read(connection)
            if asked is not None:
                self.asked.append(asked)
                path = asked.path.partition("?")[0]
                answer = self.script.pop(0) if self.script else self.routes.get(path, reply(status=404))
                answer(asked, connection)
        with contextlib.suppress(OSError):
            connection.close()


def _read(connection: socket.socket) -> Asked | None:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return None
        data += chunk
    first, *lines = data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Asked(first.split(" ")[1], headers)
