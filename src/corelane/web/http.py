"""The application behind all connections: finds the route, keeps the limits, and turns every failure into a JSON error.

It knows paths and bodies, nothing of models or sockets. Nothing is created per request but its `Exchange`: time-outs
are watched by one timer that sweeps all open exchanges.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from corelane.core.errors import (
    CorelaneError,
    DeadlineError,
    MethodNotAllowedError,
    NotReadyError,
    OverloadedError,
    SlowBodyError,
)
from corelane.web.body import check_headers, unpacked
from corelane.web.exchange import JSON, Exchange, Found, Observe, RequestHeaders
from corelane.web.route import Routes
from corelane.web.route import Scope as RouteScope
from corelane.web.status import SHED, Failure

SWEEP_S = 0.1


class Guard(Protocol):
    """Knows who may do what."""

    def check(self, authorization: str | None, scope: RouteScope) -> None:
        """Raise `UnauthorizedError` or `ForbiddenError` unless the header Authorization allows `scope`."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What requests may cost: bytes of a body, and seconds for it to arrive and for the answer to be ready; and bytes
    of all bodies together of which more is to come. One alone may always have `max_body`.
    """

    max_body: int
    body_timeout_s: float
    request_timeout_s: float
    arriving_bytes: int = 256 << 20


class HttpApplication:
    """Answers HTTP requests by `routes`.

    `on_refusal` is told the code of each refusal, `report` an unexpected error and the opaque id the caller got. What
    is shed for want of room is answered `shed_status`. `admit` is shown the headers of each request, and raises what it
    is refused with; then `guard` is asked whether a caller may use a route, before the body is read.
    """

    def __init__(
        self,
        routes: Routes,
        limits: Limits,
        *,
        observe_unrouted: Observe,
        on_refusal: Callable[[str], None],
        report: Callable[[BaseException, Failure], None],
        shed_status: int = SHED,
        guard: Guard | None = None,
        admit: Callable[[RequestHeaders], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._routes = routes
        self.limits = limits
        self.observe_unrouted = observe_unrouted
        self._open: dict[Exchange, None] = {}  # in order of arrival
        self._sweep_timer: asyncio.TimerHandle | None = None
        self.on_refusal = on_refusal
        self.report = report
        self.shed_status = shed_status
        self._guard = guard
        self._admit = admit
        self.monotonic = monotonic
        self.is_draining = False
        self._num_arriving = 0  # bytes

    @property
    def num_open(self) -> int:
        """How many requests are under way."""
        return len(self._open)

    # --- one request --------------------------------------------------------------------------------------------------

    def begin(self, exchange: Exchange) -> None:
        """The head of `exchange` has come: find who answers it, or why nobody does."""
        self._open[exchange] = None
        found = exchange.found
        if found is not None and found.num_changes == self._routes.num_changes:
            exchange.route = found.route
            exchange.observe = found.route.observe
            return
        exchange.found = None
        try:
            route = self._routes.find(exchange.method, exchange.path)
            exchange.observe = route.observe
            if self._admit is not None:
                self._admit(exchange.headers)
            if self._guard is not None and route.scope is not None:
                self._guard.check(exchange.headers.get("authorization"), route.scope)
            if route.method == "POST":
                check_headers(exchange.headers, self.limits.max_body)
            exchange.route = route
        except CorelaneError as error:
            exchange.refusal = error

    def found(self, exchange: Exchange) -> Found | None:
        """What need not be found again for a head like that of `exchange`; None where each is looked at anew."""
        if exchange.route is None or self._guard is not None or self._admit is not None:
            return None
        return Found(exchange.route, self._routes.num_changes)

    def keep(self, exchange: Exchange) -> None:
        """More of the body of `exchange` is to come: count what has, and refuse it where that is too much."""
        self._num_arriving += exchange.num_bytes - exchange.num_kept
        exchange.num_kept = exchange.num_bytes
        most = max(self.limits.arriving_bytes, self.limits.max_body)
        if self._num_arriving > most and exchange.refusal is None:
            exchange.refusal = OverloadedError(
                f"at most {most} bytes of bodies must be arriving at a time, got more; send the request again later"
            )
            exchange.pieces.clear()

    def _release(self, exchange: Exchange) -> None:
        self._num_arriving -= exchange.num_kept
        exchange.num_kept = 0

    def handle(self, exchange: Exchange) -> None:
        """The body of `exchange` is complete, or is not wanted any more: answer it. Raises nothing."""
        if exchange.num_kept:
            self._release(exchange)
        try:
            self._answer(exchange)
        except MethodNotAllowedError as error:
            exchange.fail(error, [*JSON, ("allow", self._routes.allowed(exchange.path))])
        except CorelaneError as error:
            exchange.fail(error)
        except Exception as error:  # noqa: BLE001 - the edge: whatever it is becomes an opaque 500 and a log entry
            exchange.fail(error)

    def _answer(self, exchange: Exchange) -> None:
        if exchange.refusal is not None:
            raise exchange.refusal
        if exchange.route is not None:
            exchange.route.handler(exchange, self._body(exchange))

    def ended(self, exchange: Exchange) -> None:
        """See `Edge.ended`."""
        self._open.pop(exchange, None)
        if exchange.num_kept:
            self._release(exchange)

    def _body(self, exchange: Exchange) -> bytes:
        """The whole body, without its content encoding."""
        pieces = exchange.pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if "content-encoding" in exchange.headers:
            return unpacked(body, exchange.headers, self.limits.max_body)
        return body

    # --- all of them --------------------------------------------------------------------------------------------------

    def arriving(self) -> tuple[Exchange, ...]:
        """The exchanges whose route is found, and whose handler waits for the rest of their body."""
        return tuple(exchange for exchange in self._open if exchange.is_arriving)

    def start_sweeping(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to answer 408 and 504 to exchanges that are over their time."""
        shortest_s = min(self.limits.body_timeout_s, self.limits.request_timeout_s)
        period_s = min(SWEEP_S, max(0.02, shortest_s / 20))  # a time-out is noticed at most 5 % late

        def tick() -> None:
            self._sweep(self.monotonic(), shortest_s)
            self._sweep_timer = loop.call_later(period_s, tick)

        tick()

    def stop_sweeping(self) -> None:
        """Stop the timer."""
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None

    def _sweep(self, now_s: float, shortest_s: float) -> None:
        limits = self.limits
        for exchange in list(self._open):
            age_s = now_s - exchange.arrived_s
            if age_s <= shortest_s:
                return  # the rest arrived later still
            if not exchange.is_complete and age_s > limits.body_timeout_s:
                exchange.fail(SlowBodyError(f"the body must arrive within {limits.body_timeout_s:g} s; send it faster"))
            elif exchange.is_complete and age_s > limits.request_timeout_s:
                exchange.fail(
                    DeadlineError(f"the answer was not ready within {limits.request_timeout_s:g} s; try again later")
                )

    def abort(self) -> None:
        """Answer 503 to every exchange that is still open."""
        error = NotReadyError("the server stopped before the answer was ready; send the request to another one")
        for exchange in list(self._open):
            exchange.fail(error)
