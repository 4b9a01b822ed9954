"""One HTTP request and its one reply.

A handler is handed an `Exchange` and answers through it, now or later in the same event loop; the first answer counts
and later ones are dropped, so that a time-out and a late result cannot both be sent. For the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol, TypeAlias

import orjson

from corelane.core.errors import CorelaneError, DeadlineError
from corelane.web.status import CLIENT_GONE, SHED, UNAUTHORIZED, Failure, failure_of

Headers: TypeAlias = list[tuple[str, str]]
Observe: TypeAlias = Callable[[int, float], None]
"""Told the status and the seconds from arrival to reply, once per exchange."""

JSON: Headers = [("content-type", "application/json")]
JSON_CLOSE: Headers = [*JSON, ("connection", "close")]

# Statuses sent while part of the body is unread: the connection cannot be used again.
_CLOSING = frozenset({408, 413})


class RequestHeaders(Protocol):
    """The part of Granian's headers that is read."""

    def get(self, key: str, default: str | None = None) -> str | None:
        """The first value of a header, by its lower-case name."""
        ...

    def __contains__(self, key: str) -> bool: ...


class Responder(Protocol):
    """The part of Granian's `HTTPProtocol` that sends a reply."""

    async def client_disconnect(self) -> None:
        """Return when the client has closed the connection."""
        ...

    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None:
        """Send status, headers and the whole body."""
        ...


class Exchange:
    """A request that waits for its reply. `arrived_s` is monotonic; `reader` is the task that still reads its body;
    `when_gone`, if set, is called when the client closes the connection instead of waiting.
    """

    __slots__ = (
        "_deadline_s",
        "_done",
        "_edge",
        "_responder",
        "_timer",
        "_watch",
        "arrived_s",
        "headers",
        "observe",
        "reader",
        "replied",
        "when_gone",
    )

    def __init__(self, responder: Responder, edge: Edge, arrived_s: float, observe: Observe) -> None:
        self._responder = responder
        self._edge = edge
        self._done: asyncio.Future[None] | None = None
        self.arrived_s = arrived_s
        self.observe = observe
        self.headers: RequestHeaders | None = None
        self._deadline_s = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None
        self.reader: asyncio.Task[None] | None = None
        self.replied = False
        self.when_gone: Callable[[], None] | None = None

    @property
    def is_alone(self) -> bool:
        """Whether no other request is under way in this process."""
        return self._edge.num_open == 1

    @property
    def is_arriving(self) -> bool:
        """Whether its body is still being read, so that its handler was not called yet."""
        return self.reader is not None and not self.replied

    @property
    def is_late(self) -> bool:
        """Whether the deadline that `expire` set has passed."""
        return self._deadline_s < math.inf and self._edge.monotonic() > self._deadline_s

    def expire(self, deadline_s: float) -> None:
        """Answer 504 at `deadline_s` (monotonic) if there is no reply by then."""
        self._deadline_s = deadline_s
        late = DeadlineError("the answer was not ready before the deadline; try again later")
        wait_s = max(0.0, deadline_s - self._edge.monotonic())
        self._timer = asyncio.get_running_loop().call_later(wait_s, self.fail, late)

    def header(self, name: str) -> str | None:
        """The first value of the request's header `name` (lower case), of a request with a body."""
        return None if self.headers is None else self.headers.get(name)

    def watch(self) -> None:
        """Look out for the client's leaving, from now on; only for an exchange that waits for its reply."""
        if self._watch is None and self.when_gone is not None:
            self._watch = asyncio.ensure_future(self._until_gone())

    async def _until_gone(self) -> None:
        await self._responder.client_disconnect()
        if not self.replied and self.when_gone is not None:
            self.when_gone()
            self.abandon()
            if self._done is not None and not self._done.done():
                self._done.set_result(None)

    def reply(self, body: bytes, status: int = 200, headers: Headers = JSON) -> None:
        """Send the reply, unless one was sent before."""
        if self.replied:
            return
        self.replied = True
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        if self._edge.is_draining and headers is not JSON_CLOSE:
            headers = JSON_CLOSE if headers is JSON else [*headers, ("connection", "close")]
        self._responder.response_bytes(status, headers, body)
        self.observe(status, self._edge.monotonic() - self.arrived_s)
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def fail(self, error: BaseException, headers: Headers = JSON) -> None:
        """Answer `{"error": ...}` with the status of `error`; an unexpected one is reported to the log by its id."""
        if self.replied:
            return
        failure = failure_of(error)
        if failure.error_id is not None:
            self._edge.report(error, failure)
        elif isinstance(error, CorelaneError):
            self._edge.on_refusal(error.code)
        if failure.retry_after_s is not None:
            headers = [*headers, ("retry-after", str(math.ceil(failure.retry_after_s)))]
        if failure.status == UNAUTHORIZED:
            headers = [*headers, ("www-authenticate", "Bearer")]
        if failure.status in _CLOSING:
            headers = [*headers, ("connection", "close")]
        status = self._edge.shed_status if failure.status == SHED else failure.status
        self.reply(orjson.dumps({"error": failure.message}), status, headers)

    def abandon(self) -> None:
        """The client is gone: send nothing, count it."""
        if not self.replied:
            self.replied = True
            self.observe(CLIENT_GONE, self._edge.monotonic() - self.arrived_s)

    def done(self) -> asyncio.Future[None]:
        """A future for the moment the reply is sent; for an exchange that has none yet."""
        self._done = asyncio.get_running_loop().create_future()
        return self._done


class Edge(Protocol):
    """What an exchange asks of the application it belongs to."""

    is_draining: bool
    num_open: int
    shed_status: int
    monotonic: Callable[[], float]
    on_refusal: Callable[[str], None]

    def report(self, error: BaseException, failure: Failure) -> None:
        """Log an unexpected `error` under `failure.error_id`."""
        ...
