"""One HTTP request and its one reply.

A handler is handed an `Exchange` and answers through it, now or later in the same event loop; the first answer counts
and later ones are dropped, so that a time-out and a late result cannot both be sent. For the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeAlias

import orjson

from corelane.core.errors import CorelaneError, DeadlineError
from corelane.web.status import CLIENT_GONE, SHED, UNAUTHORIZED, Failure, failure_of

Headers: TypeAlias = list[tuple[str, str]]
RequestHeaders: TypeAlias = Mapping[str, str]
"""The first value of each header of a request, by its name in lower case."""

Observe: TypeAlias = Callable[[int, float], None]
"""Told the status and the seconds from arrival to reply, once per exchange."""

NO_HEADERS: RequestHeaders = MappingProxyType({})
JSON: Headers = [("content-type", "application/json")]


class Sender(Protocol):
    """The connection that a request came on."""

    def send(self, exchange: Exchange, status: int, headers: Headers, body: bytes) -> None:
        """Send the one reply to `exchange`."""
        ...


class Answerer(Protocol):
    """Who answers a request: its route."""

    @property
    def handler(self) -> Callable[[Exchange, bytes], None]:
        """Answers an exchange, of which the body is complete."""
        ...

    @property
    def observe(self) -> Observe:
        """Told of the reply."""
        ...


class Found(NamedTuple):
    """Who answers a head that was found right, and how often routes had changed by then."""

    route: Answerer
    num_changes: int


class Edge(Protocol):
    """What an exchange asks of the application it belongs to."""

    shed_status: int
    monotonic: Callable[[], float]
    on_refusal: Callable[[str], None]

    def ended(self, exchange: Exchange) -> None:
        """`exchange` was answered, or its client left."""
        ...

    def report(self, error: BaseException, failure: Failure) -> None:
        """Log an unexpected `error` under `failure.error_id`."""
        ...


class Exchange:
    """A request that waits for its reply. `arrived_s` is monotonic; `pieces` are those of its body that have come.

    `route` is who answers it, None before that is known, and `found` who answered such a head before; `refusal` is what
    it is answered instead, as soon as its body is over. `when_gone`, if set, is called when the client closes the
    connection instead of waiting.
    """

    __slots__ = (
        "_deadline_s",
        "_edge",
        "_sender",
        "_timer",
        "arrived_s",
        "found",
        "headers",
        "is_complete",
        "is_kept",
        "method",
        "num_bytes",
        "num_kept",
        "observe",
        "path",
        "pieces",
        "refusal",
        "replied",
        "route",
        "when_gone",
    )

    def __init__(
        self,
        sender: Sender,
        edge: Edge,
        observe: Observe,
        method: str = "",
        is_kept: bool = False,
    ) -> None:
        self._sender = sender
        self._edge = edge
        self.observe = observe
        self.method = method
        self.path = ""
        self.headers: RequestHeaders = NO_HEADERS
        self.is_kept = is_kept  # whether the client wants to go on with the connection
        self.arrived_s = edge.monotonic()
        self.pieces: list[bytes] = []
        self.num_bytes = 0
        self.num_kept = 0  # of those, what is counted while more is to come
        self.is_complete = False
        self.route: Answerer | None = None
        self.found: Found | None = None
        self.refusal: CorelaneError | None = None
        self.replied = False
        self.when_gone: Callable[[], None] | None = None
        self._deadline_s = math.inf
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_arriving(self) -> bool:
        """Whether its route is known and its body is still being read, so that its handler was not called yet."""
        return self.route is not None and not self.is_complete and not self.replied

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

    def reply(self, body: bytes, status: int = 200, headers: Headers = JSON) -> None:
        """Send the reply, unless one was sent before."""
        if self.replied:
            return
        self._end(status)
        self._sender.send(self, status, headers, body)

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
        status = self._edge.shed_status if failure.status == SHED else failure.status
        self.reply(orjson.dumps({"error": failure.message}), status, headers)

    def abandon(self) -> None:
        """The client is gone: send nothing, count it, and tell whoever works on the answer."""
        if self.replied:
            return
        self._end(CLIENT_GONE)
        if self.when_gone is not None:
            self.when_gone()

    def _end(self, status: int) -> None:
        self.replied = True
        if self._timer is not None:
            self._timer.cancel()
        self._edge.ended(self)
        self.observe(status, self._edge.monotonic() - self.arrived_s)
