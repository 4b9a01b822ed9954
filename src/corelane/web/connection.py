"""One connection of HTTP/1.1: bytes in, requests to the application, replies out, in order.

httptools (llhttp, the parser of Node.js, in its strict mode) reads the bytes. What one read of the socket brings is
handled before the event loop goes on, so that requests of many connections that came together can be run together.
Limits of the head are kept here, those of bodies in `http.py` and `body.py`. The rules are those of RFC 9112.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from http import HTTPStatus
from typing import NamedTuple, Protocol

import httptools

from corelane.core.errors import CorelaneError, MethodNotAllowedError, RequestError, SlowBodyError
from corelane.web.body import FREE_PIECES, check_piece
from corelane.web.exchange import JSON, Exchange, Headers, RequestHeaders
from corelane.web.head import (
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    check_head,
    head_too_large,
    headers_of,
    path_of,
    without_upgrade,
)
from corelane.web.http import HttpApplication

LINGER_S = 2.0
"""How long a connection that is over still takes in what its client was sending: closed at once, it would be reset, and
the client might lose the reply that says why.
"""
LINGER_BYTES = 1 << 20
REMEMBERED_BYTES = 2048  # of the last head, which nearly always are enough; thousands of connections keep one each

_SMALL = 64 << 10  # bytes; a larger body is not copied behind its head
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_OK_JSON = f"{_STATUS_LINES[200]}content-type: application/json\r\ndate: ".encode()
_SPECIAL = frozenset({"connection", "expect", "transfer-encoding", "upgrade"})
"""Headers with which a request is more than its bytes."""

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


class _Again(NamedTuple):
    """A request that came whole, in one read: its head as bytes, its length in all, and what the parser said of it.

    The same bytes at the beginning of another read, of that length, are the same head and a body of the same length.
    """

    head: bytes
    num_bytes: int
    path: str
    headers: RequestHeaders


class _OverError(Exception):
    """Raised through the parser to stop it: what ends the connection is known."""


class Connection(asyncio.Protocol):
    """Owns one connection's parser, its requests in order, and its end. For the event loop's thread only.

    One request at a time is with the application; what is sent behind it waits, and nothing more is read meanwhile.
    """

    __slots__ = (
        "_again",
        "_application",
        "_arriving",
        "_asked",
        "_behind",
        "_fields",
        "_head_bytes",
        "_is_deaf",
        "_is_going_on",
        "_is_paused",
        "_last_head",
        "_last_headers",
        "_last_path",
        "_listener",
        "_max_body",
        "_num_ignored",
        "_num_read",
        "_num_requests",
        "_parser",
        "_transport",
        "_url",
        "_waits_to_be_told",
        "_without_upgrade",
        "ends_s",
        "idle_since_s",
        "stalled_since_s",
    )

    def __init__(self, application: HttpApplication, listener: Listener) -> None:
        self._application = application
        self._listener = listener
        self._parser = httptools.HttpRequestParser(self)
        self._max_body = application.limits.max_body
        self._url = b""
        self._fields: list[bytes] = []  # names and values in turn, as they came
        self._head_bytes = 0
        self._without_upgrade: bytes | None = None  # the head of a request that asked for one
        self._arriving: Exchange | None = None  # its head has come, its body has not
        self._asked: Exchange | None = None  # with the application
        self._behind: deque[Exchange] = deque()  # in order
        self._last_head: tuple[str, bytes, str, list[bytes]] | None = None
        self._again: _Again | None = None
        self._last_path = ""
        self._last_headers: RequestHeaders = {}
        self._num_requests = self._num_ignored = self._num_read = 0
        self._waits_to_be_told = False  # the client of `_arriving`, before it sends a body
        self._is_deaf = False  # what comes does not count any more
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
        self._is_deaf = True
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
        if self._is_deaf:
            self._num_ignored += len(data)
            if self._num_ignored > LINGER_BYTES:
                self._transport.abort()
            return
        again = self._again
        if again is not None and len(data) == again.num_bytes and data.startswith(again.head) and self._is_between:
            self._receive_again(data, again)
        else:
            self._parse(data)
        if self._behind and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    @property
    def _is_between(self) -> bool:
        """Whether all that came so far were whole requests, so that the next byte begins another."""
        return self._arriving is None and not self._has_begun

    def _receive_again(self, data: bytes, again: _Again) -> None:
        """As the parser would: a client that asks the same model again and again sends the same head each time."""
        application = self._application
        exchange = Exchange(self, application, application.observe_unrouted, "POST", is_kept=True)
        exchange.path, exchange.headers = again.path, again.headers
        exchange.pieces.append(data[len(again.head) :])
        exchange.num_bytes = again.num_bytes - len(again.head)
        exchange.is_complete = True
        self._num_requests += 1
        if self._asked is not None:
            self._behind.append(exchange)
            return
        self._ask(exchange)
        if not exchange.replied:
            application.handle(exchange)

    def _parse(self, data: bytes) -> None:
        """Have the parser read `data`, which calls what is below."""
        num_requests, former, is_between = self._num_requests, self._arriving, self._is_between
        num_bytes = 0 if former is None else former.num_bytes
        self._num_read = len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._goes_on(data, error):
                return
        if self._arriving is not None:
            self._see_to_rest(self._arriving)
        if self._arriving is former and num_requests == self._num_requests:
            self._count_other_bytes(former, num_bytes)
        elif is_between and self._is_between and num_requests + 1 == self._num_requests:
            self._remember(data)

    def _remember(self, data: bytes) -> None:
        """Know the request again that `data` was, the whole of it and nothing else, if all that its head asked for was
        to read a body of that length.
        """
        if self._last_head is None or self._is_deaf:
            return
        method, _, version, _ = self._last_head
        headers = self._last_headers
        length = headers.get("content-length", "")
        if (method, version) == ("POST", "1.1") and length.isdecimal() and not _SPECIAL & headers.keys():
            end = data.find(b"\r\n\r\n") + 4
            is_whole = end + int(length) == len(data)  # else there is more than a head and its body
            self._again = _Again(data[:end], len(data), self._last_path, headers) if is_whole else None

    def _count_other_bytes(self, exchange: Exchange | None, num_bytes: int) -> None:
        """What came was a part of a head, or of `exchange` where that already had `num_bytes` of its body: without more
        of it, these are trailers, or what stands for no chunk.
        """
        if exchange is None or exchange.num_bytes == num_bytes:
            self._head_bytes += self._num_read
            if self._head_bytes > MAX_HEAD_BYTES and not self._is_deaf:
                self._refuse(head_too_large())
        else:
            self._head_bytes = 0

    # --- the parser ---------------------------------------------------------------------------------------------------

    def _goes_on(self, data: bytes, error: Exception) -> bool:
        """Whether the connection goes on although the parser stopped in `data`: after a wish for an upgrade it does."""
        while isinstance(error, httptools.HttpParserUpgrade):
            data = self._read_anew(data[error.args[0] :])
            try:
                self._parser.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as another:
                error = another
            else:
                return True
        if self._is_deaf:
            return False
        if isinstance(error, httptools.HttpParserInvalidMethodError):
            self._refuse(MethodNotAllowedError("the method must be GET or POST, got one that HTTP does not know"))
        elif not isinstance(error, httptools.HttpParserCallbackError):
            self._refuse(RequestError(f"the request must be HTTP/1.1 to the letter, got: {error}"))
        elif not isinstance(error.__context__, _OverError):
            raise error
        return False

    def _read_anew(self, rest: bytes) -> bytes:
        """What is to be read next, by a new parser, of a request that asked for another protocol: itself without that.

        An upgrade need not be taken up (RFC 9110, 7.8), but the parser then takes the body for the other protocol.
        """
        self._parser = httptools.HttpRequestParser(self)
        head, self._without_upgrade = self._without_upgrade or b"", None
        return head + rest

    def on_url(self, url: bytes) -> None:
        """Called by the parser, with a piece of the request's target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser, with a whole header or trailer."""
        self._fields += (name, value)
        if len(self._fields) > 2 * MAX_HEADERS:
            self._refuse(head_too_large())
            raise _OverError

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if self._is_deaf:
            return
        parser, application = self._parser, self._application
        method = parser.get_method().decode("latin-1")
        head = (method, self._url, parser.get_http_version(), self._fields)
        most_bytes, self._url, self._fields, self._head_bytes = self._head_bytes + self._num_read, b"", [], 0
        is_kept = parser.should_keep_alive() and head[2] == "1.1" and method != "CONNECT"
        exchange = Exchange(self, application, application.observe_unrouted, method, is_kept)
        if head == self._last_head:  # as of a client that asks the same model again and again
            exchange.path, exchange.headers = self._last_path, self._last_headers
        else:
            try:
                self._read_head(exchange, *head[1:], most_bytes)
            except CorelaneError as error:
                exchange.refusal, exchange.is_kept = error, False
            is_remembered = exchange.refusal is None and len(head[1]) + sum(map(len, head[3])) <= REMEMBERED_BYTES
            self._last_head = head if is_remembered else None
            if is_remembered:
                self._last_path, self._last_headers = exchange.path, exchange.headers
        if self._without_upgrade is not None:
            return
        self._num_requests += 1
        self._arriving = exchange
        self._waits_to_be_told = exchange.headers.get("expect", "").lower() == "100-continue"
        if self._asked is None:
            self._ask(exchange)
        else:
            self._behind.append(exchange)

    def _read_head(self, exchange: Exchange, url: bytes, version: str, fields: list[bytes], most_bytes: int) -> None:
        """Fill `exchange` with what the head says. Raises `HeadTooLargeError` and `RequestError`."""
        if most_bytes > MAX_HEAD_BYTES and len(url) + sum(map(len, fields)) > MAX_HEAD_BYTES:
            raise head_too_large()
        exchange.headers = headers = headers_of(fields)
        exchange.path = path_of(url)
        check_head(version, exchange)
        if "upgrade" in headers and exchange.method != "CONNECT" and self._parser.should_upgrade():
            self._without_upgrade = without_upgrade(exchange.method, url, headers)

    def on_body(self, piece: bytes) -> None:
        """Called by the parser, with a piece of the body."""
        exchange = self._arriving
        if exchange is None or exchange.refusal is not None:
            return
        exchange.pieces.append(piece)
        exchange.num_bytes += len(piece)
        if exchange.num_bytes > self._max_body or len(exchange.pieces) > FREE_PIECES:
            try:
                check_piece(len(exchange.pieces), exchange.num_bytes, self._max_body)
            except CorelaneError as error:
                exchange.refusal = error
                exchange.pieces.clear()

    def on_message_complete(self) -> None:
        """Called by the parser."""
        exchange, self._arriving = self._arriving, None
        self._fields.clear()  # of trailers
        self._head_bytes = 0
        if exchange is None:
            return
        exchange.is_complete = True
        if exchange is self._asked and not exchange.replied:
            self._application.handle(exchange)

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
                self._see_to_rest(exchange)
        self._is_going_on = False
        if self._is_paused and not self._behind and not self._transport.is_closing():
            self._is_paused = False
            self._transport.resume_reading()

    def _see_to_rest(self, exchange: Exchange) -> None:
        """More of the body is to come: ask for it where the client waits for that, or refuse it unread."""
        if exchange is not self._asked or exchange.replied:
            return
        self._application.keep(exchange)
        if exchange.refusal is not None:
            self._is_deaf = True
            self._application.handle(exchange)
        elif self._waits_to_be_told:
            self._waits_to_be_told = False
            self._transport.write(_CONTINUE)

    def _refuse(self, error: CorelaneError) -> None:
        """Read no more, and answer `error` after all that came before what is at fault."""
        self._is_deaf = True
        exchange = self._arriving
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
        was_hung_up = self._is_deaf or self._arriving is not None
        self._is_deaf = True
        self._behind.clear()
        if was_hung_up and self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
            self.ends_s = self._application.monotonic() + LINGER_S
            if self._is_paused:
                self._is_paused = False
                self._transport.resume_reading()
        else:
            self._transport.close()

    @property
    def _has_begun(self) -> bool:
        """Whether a part of a request's head has come."""
        return bool(self._head_bytes or self._url)

    def time_out(self) -> None:
        """The head of a request did not come within its time: say so where it had begun, and close."""
        if self._has_begun:
            self._refuse(SlowBodyError("the head must arrive in time, got a part of it; send it faster"))
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close at once; a reply that its client does not take is lost."""
        self._transport.abort()

    def drain(self) -> None:
        """Close if nothing is under way; after its reply otherwise."""
        if self._asked is None and not self._has_begun:
            self._transport.close()


def _head(status: int, headers: Headers, date: bytes, length: int, *, is_last: bool) -> bytes:
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers])
    end = "connection: close\r\n\r\n" if is_last else "\r\n"
    text = f"{_STATUS_LINES[status]}{fields}date: {date.decode()}\r\ncontent-length: {length}\r\n{end}"
    return text.encode("latin-1")
