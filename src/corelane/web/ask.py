"""One HTTP request to another process of this server, over the Unix socket that it listens on.

A request is sent once, on a connection of its own, so that what may not be repeated is not. httptools reads the reply.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httptools

from corelane.core.errors import NotReadyError, WorkerLostError
from corelane.machine.worker_socket import short_address

MAX_ANSWER = 4 << 20  # bytes of a reply: what is told of a thousand models is a tenth of it
_CHUNK = 64 << 10


@dataclass(frozen=True, slots=True)
class Answer:
    """The status and the body of a reply."""

    status: int
    body: bytes


async def ask(socket: Path, method: str, path: str, body: bytes = b"", *, timeout_s: float) -> Answer:
    """The answer of the process that listens on `socket`; `path` is sent as a URL has it.

    Raises `NotReadyError` when nobody listens there: nothing was sent. Raises `WorkerLostError` when a request was sent
    and no whole answer came within `timeout_s` seconds: nobody knows what became of it.
    """
    try:
        with short_address(socket) as address:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_unix_connection(address)
    except OSError as error:
        raise NotReadyError(f"{socket.stem} must be running, got nobody who listens; try again in a moment") from error
    try:
        async with asyncio.timeout(timeout_s):
            writer.write(_request(method, path, body))
            return await _answer(reader)
    except (OSError, httptools.HttpParserError) as error:  # a time-out is an OSError too
        raise WorkerLostError(
            f"{socket.stem} must answer within {timeout_s:g} s, got no whole answer; look what became of the request"
        ) from error
    finally:
        writer.close()


def _request(method: str, path: str, body: bytes) -> bytes:
    target = quote(path, safe="/")
    head = f"{method} {target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode("ascii") + body


class _Reply:
    """What the parser has seen of a reply."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.is_complete = False

    def on_body(self, piece: bytes) -> None:
        """A piece of the body has come."""
        self.body += piece

    def on_message_complete(self) -> None:
        """That was all."""
        self.is_complete = True


async def _answer(reader: asyncio.StreamReader) -> Answer:
    """The one reply that comes. Raises `ConnectionError` and `HttpParserError`."""
    reply = _Reply()
    parser = httptools.HttpResponseParser(reply)
    while not reply.is_complete:
        chunk = await reader.read(_CHUNK)
        if not chunk or len(reply.body) > MAX_ANSWER:
            raise ConnectionError("the reply ended before its end, or is too large")
        parser.feed_data(chunk)
    return Answer(parser.get_status_code(), bytes(reply.body))
