"""Reads requests out of the bytes of one connection.

httptools (llhttp, the parser of Node.js, in its strict mode) reads the bytes; a request that comes again, whole and in
one read, is known by its bytes. Limits of the head are kept here, those of bodies in `http.py` and `body.py`. The rules
are those of RFC 9112.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import httptools

from corelane.core.errors import CorelaneError, MethodNotAllowedError, RequestError
from corelane.web.body import FREE_PIECES, check_piece
from corelane.web.exchange import Exchange, Found, RequestHeaders, Sender
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

REMEMBERED_BYTES = 2048  # of the last head, which nearly always are enough; thousands of connections keep one each
_SPECIAL = frozenset({"connection", "expect", "transfer-encoding", "upgrade"})
"""Headers with which a request is more than its bytes."""


class Taker(Sender, Protocol):
    """Who takes the requests that are read, in order: their connection."""

    is_deaf: bool
    """What comes does not count any more."""

    def take(self, exchange: Exchange) -> None:
        """The head of `exchange` has come."""
        ...

    def take_rest(self, exchange: Exchange) -> None:
        """Its body has come, too."""
        ...

    def see_to_rest(self, exchange: Exchange) -> None:
        """More of its body is to come."""
        ...

    def refuse(self, error: CorelaneError) -> None:
        """Read no more: what comes is at fault."""
        ...


class _Again(NamedTuple):
    """A request that came whole, in one read: its head as bytes, its length in all, and what the parser said of it.

    The same bytes at the beginning of another read, of that length, are the same head and a body of the same length.
    """

    head: bytes
    num_bytes: int
    path: str
    headers: RequestHeaders
    found: Found | None


class _OverError(Exception):
    """Raised through the parser to stop it: what ends the connection is known."""


class RequestReader:
    """Owns one connection's parser and the request that is arriving, and nothing else; `taker` gets what was read."""

    __slots__ = (
        "_again",
        "_application",
        "_fields",
        "_head_bytes",
        "_last",
        "_last_head",
        "_last_headers",
        "_last_path",
        "_max_body",
        "_num_read",
        "_num_requests",
        "_parser",
        "_taker",
        "_url",
        "_without_upgrade",
        "arriving",
    )

    def __init__(self, application: HttpApplication, taker: Taker) -> None:
        self._application = application
        self._taker = taker
        self._parser = httptools.HttpRequestParser(self)
        self._max_body = application.limits.max_body
        self._url = b""
        self._fields: list[bytes] = []  # names and values in turn, as they came
        self._head_bytes = 0
        self._without_upgrade: bytes | None = None  # the head of a request that asked for one
        self._last_head: tuple[str, bytes, str, list[bytes]] | None = None
        self._again: _Again | None = None
        self._last_path = ""
        self._last: Exchange | None = None  # that is over, of what is being read
        self._last_headers: RequestHeaders = {}
        self._num_requests = self._num_read = 0
        self.arriving: Exchange | None = None
        """Its head has come, its body has not."""

    @property
    def has_begun(self) -> bool:
        """Whether a part of a request's head has come."""
        return bool(self._head_bytes or self._url)

    @property
    def _is_between(self) -> bool:
        """Whether all that came so far were whole requests, so that the next byte begins another."""
        return self.arriving is None and not self.has_begun

    def read(self, data: bytes) -> None:
        """Read what came."""
        again = self._again
        if again is not None and len(data) == again.num_bytes and data.startswith(again.head) and self._is_between:
            self._read_again(data, again)
        else:
            self._parse(data)

    def _read_again(self, data: bytes, again: _Again) -> None:
        """As the parser would: a client that asks the same model again and again sends the same head each time."""
        application = self._application
        exchange = Exchange(self._taker, application, application.observe_unrouted, "POST", is_kept=True)
        exchange.path, exchange.headers, exchange.found = again.path, again.headers, again.found
        exchange.pieces.append(data[len(again.head) :])
        exchange.num_bytes = again.num_bytes - len(again.head)
        exchange.is_complete = True
        self._num_requests += 1
        self._taker.take(exchange)
        if exchange.found is not again.found:
            self._again = None  # routes have changed: the next one is read, and found, as the first was
        self._taker.take_rest(exchange)

    def _parse(self, data: bytes) -> None:
        """Have the parser read `data`, which calls what is below."""
        num_requests, former, is_between = self._num_requests, self.arriving, self._is_between
        num_bytes = 0 if former is None else former.num_bytes
        self._num_read = len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._goes_on(data, error):
                return
        if self.arriving is not None:
            self._taker.see_to_rest(self.arriving)
        if self.arriving is former and num_requests == self._num_requests:
            self._count_other_bytes(former, num_bytes)
        elif is_between and self._is_between and num_requests + 1 == self._num_requests and self._last is not None:
            self._remember(data, self._last)
        self._last = None

    def _remember(self, data: bytes, exchange: Exchange) -> None:
        """Know `exchange` again, which was all of `data` and nothing else, if its head asked for no more than to read a
        body of that length.
        """
        if self._last_head is None or self._taker.is_deaf:
            return
        method, _, version, _ = self._last_head
        headers = self._last_headers
        length = headers.get("content-length", "")
        if (method, version) == ("POST", "1.1") and length.isdecimal() and not _SPECIAL & headers.keys():
            end = data.find(b"\r\n\r\n") + 4
            is_whole = end + int(length) == len(data)  # else there is more than a head and its body
            found = self._application.found(exchange)
            self._again = _Again(data[:end], len(data), self._last_path, headers, found) if is_whole else None

    def _count_other_bytes(self, exchange: Exchange | None, num_bytes: int) -> None:
        """What came was a part of a head, or of `exchange` where that already had `num_bytes` of its body: without more
        of it, these are trailers, or what stands for no chunk.
        """
        if exchange is None or exchange.num_bytes == num_bytes:
            self._head_bytes += self._num_read
            if self._head_bytes > MAX_HEAD_BYTES and not self._taker.is_deaf:
                self._taker.refuse(head_too_large())
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
        if self._taker.is_deaf:
            return False
        if isinstance(error, httptools.HttpParserInvalidMethodError):
            self._taker.refuse(MethodNotAllowedError("the method must be GET or POST, got one that HTTP does not know"))
        elif not isinstance(error, httptools.HttpParserCallbackError):
            self._taker.refuse(RequestError(f"the request must be HTTP/1.1 to the letter, got: {error}"))
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
            self._taker.refuse(head_too_large())
            raise _OverError

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if self._taker.is_deaf:
            return
        parser, application = self._parser, self._application
        method = parser.get_method().decode("latin-1")
        head = (method, self._url, parser.get_http_version(), self._fields)
        most_bytes, self._url, self._fields, self._head_bytes = self._head_bytes + self._num_read, b"", [], 0
        is_kept = parser.should_keep_alive() and head[2] == "1.1" and method != "CONNECT"
        exchange = Exchange(self._taker, application, application.observe_unrouted, method, is_kept)
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
        self.arriving = exchange
        self._taker.take(exchange)

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
        exchange = self.arriving
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
        exchange, self.arriving = self.arriving, None
        self._fields.clear()  # of trailers
        self._head_bytes = 0
        if exchange is None:
            return
        exchange.is_complete = True
        self._last = exchange
        self._taker.take_rest(exchange)
