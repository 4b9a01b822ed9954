"""One connection of HTTP/1.1: bytes in, requests to the application, replies out, in order.

A `RequestReader` reads the bytes. What one read of the socket brings is handled before the event loop goes on, so that
requests of many connections that came together can be run together. The rules are those of RFC 9112.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from http import HTTPStatus
from typing import Protocol

from corelane.core.errors import CorelaneError, SlowBodyError
from corelane.web.exchange import JSON, Exchange, Headers
from corelane.web.http import HttpApplication
from corelane.web.reader import RequestReader

LINGER_S = 2.0
"""How long a connection that is over still takes in what its client was sending: closed at once, it would be reset, and
the client might lose the reply that says why.
"""
LINGER_BYTES = 1 << 20
_SMALL = 64 << 10  # bytes; a larger body is not copied behind its head
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_OK_JSON = f"{_STATUS_LINES[200]}content-type: application/json\r\ndate: ".encode()
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Listener(Protocol):
    """What a connection belongs to."""

    date: bytes
    """Now, as the header Date has it."""

    def connected(self, connection: Connection) -> None:
        """`connection` is there."""
        ...

    def disconnected(self, connection: Connection) -> None:
        """It is there no more."""
        ...


class Connection(asyncio.Protocol):
    """Owns one connection's reader, its requests in order, and its end. For the event loop's thread only.

    One request at a time is with the application; what is sent behind it waits, and nothing more is read meanwhile.
    """

    __slots__ = (
        "_application",
        "_asked",
        "_behind",
        "_is_going_on",
        "_is_paused",
        "_listener",
        "_num_ignored",
        "_reader",
        "_told",
        "_transport",
        "ends_s",
        "idle_since_s",
        "is_deaf",
        "stalled_since_s",
    )

    def __init__(self, application: HttpApplication, listener: Listener) -> None:
        self._application = application
        self._listener = listener
        self._reader = RequestReader(application, self)
        self._asked: Exchange | None = None  # with the application
        self._behind: deque[Exchange] = deque()  # in order
        self._num_ignored = 0
        self._told: Exchange | None = None  # that its body may come, as its client wanted to know
        self.is_deaf = False  # what comes does not count any more
        self._is_paused = self._is_going_on = False
        self.idle_since_s = application.monotonic()
        """Since when it waits for the whole of a request's head; infinity while a request is under way."""
        self.ends_s = math.inf
        """When it is closed at the latest, of one that is over."""
        self.stalled_since_s = math.inf
        """Since when its client takes nothing of a reply; infinity while it does."""

    # --- the transport ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._listener.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it ended
        """See `asyncio.BaseProtocol`."""
        self.is_deaf = True
        self._listener.disconnected(self)
        if self._asked is not None:
            self._asked.abandon()
        self._behind.clear()

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self.stalled_since_s = self._application.monotonic()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self.stalled_since_s = math.inf
        self._go_on()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.is_deaf:
            self._num_ignored += len(data)
            if self._num_ignored > LINGER_BYTES:
                self._transport.abort()
            return
        self._reader.read(data)
        if self._behind and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    # --- what was read ------------------------------------------------------------------------------------------------

    def take(self, exchange: Exchange) -> None:
        """See `Taker.take`."""
        if self._asked is None:
            self._ask(exchange)
        else:
            self._behind.append(exchange)

    def take_rest(self, exchange: Exchange) -> None:
        """See `Taker.take_rest`."""
        if exchange is self._asked and not exchange.replied:
            self._application.handle(exchange)

    def see_to_rest(self, exchange: Exchange) -> None:
        """See `Taker.see_to_rest`: ask for it where the client waits for that, or refuse it unread."""
        if exchange is not self._asked or exchange.replied:
            return
        self._application.keep(exchange)
        if exchange.refusal is not None:
            self.is_deaf = True
            self._application.handle(exchange)
        elif exchange is not self._told and exchange.headers.get("expect", "").lower() == "100-continue":
            self._told = exchange
            self._transport.write(_CONTINUE)

    # --- requests in order --------------------------------------------------------------------------------------------

    def _ask(self, exchange: Exchange) -> None:
        """Hand `exchange` to the application; it is handled when its body has come."""
        self._asked = exchange
        self.idle_since_s = math.inf
        if exchange.refusal is None:
            self._application.begin(exchange)

    def _go_on(self) -> None:
        """Answer what came behind the request that was answered, as far as it goes."""
        if self._is_going_on:
            return  # called by a reply within the loop below
        self._is_going_on = True
        while self._behind and self._asked is None and self.stalled_since_s == math.inf:
            exchange = self._behind.popleft()
            self._ask(exchange)
            if exchange.is_complete:
                self._application.handle(exchange)
            else:
                self.see_to_rest(exchange)
        self._is_going_on = False
        if self._is_paused and not self._behind and not self._transport.is_closing():
            self._is_paused = False
            self._transport.resume_reading()

    def refuse(self, error: CorelaneError) -> None:
        """See `Taker.refuse`: answer `error` after all that came before what is at fault."""
        self.is_deaf = True
        exchange = self._reader.arriving
        if exchange is None:
            last = self._behind[-1] if self._behind else self._asked
            if last is not None and not last.is_kept:
                return  # it said itself that it would be the last
            exchange = Exchange(self, self._application, self._application.observe_unrouted)
            exchange.is_complete = True
            if self._asked is not None:
                self._behind.append(exchange)
        exchange.refusal = error
        exchange.is_kept = False
        if self._asked is None:
            self._ask(exchange)
        if exchange is self._asked:
            self._application.handle(exchange)

    # --- replies ------------------------------------------------------------------------------------------------------

    def send(self, exchange: Exchange, status: int, headers: Headers, body: bytes) -> None:
        """See `Sender.send`."""
        if self._transport.is_closing():
            return
        is_last = self._application.is_draining or not exchange.is_kept or not exchange.is_complete
        if status == 200 and headers is JSON and not is_last:
            head = b"%b%b\r\ncontent-length: %d\r\n\r\n" % (_OK_JSON, self._listener.date, len(body))
        else:
            head = _head(status, headers, self._listener.date, len(body), is_last=is_last)
        if exchange.method == "HEAD":
            self._transport.write(head)
        elif len(body) > _SMALL:
            self._transport.write(head)
            self._transport.write(body)
        else:
            self._transport.write(head + body)
        self._asked = None
        if is_last:
            self._end()
            return
        if self._behind:
            self._go_on()
        if self._asked is None:
            self.idle_since_s = self._application.monotonic()

    def _end(self) -> None:
        """Close when the last reply is sent, and not before its client had a chance to see it."""
        was_hung_up = self.is_deaf or self._reader.arriving is not None
        self.is_deaf = True
        self._behind.clear()
        if was_hung_up and self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
            self.ends_s = self._application.monotonic() + LINGER_S
            if self._is_paused:
                self._is_paused = False
                self._transport.resume_reading()
        else:
            self._transport.close()

    def time_out(self) -> None:
        """The head of a request did not come within its time: say so where it had begun, and close."""
        if self._reader.has_begun:
            self.refuse(SlowBodyError("the head must arrive in time, got a part of it; send it faster"))
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close at once; a reply that its client does not take is lost."""
        self._transport.abort()

    def drain(self) -> None:
        """Close if nothing is under way; after its reply otherwise."""
        if self._asked is None and not self._reader.has_begun:
            self._transport.close()


def _head(status: int, headers: Headers, date: bytes, length: int, *, is_last: bool) -> bytes:
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers])
    end = "connection: close\r\n\r\n" if is_last else "\r\n"
    text = f"{_STATUS_LINES[status]}{fields}date: {date.decode()}\r\ncontent-length: {length}\r\n{end}"
    return text.encode("latin-1")
