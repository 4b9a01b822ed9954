"""The RSGI application: finds the route, reads the body within limits, and turns every failure into a JSON error.

It knows paths and bytes, nothing of models. Granian calls it with one coroutine per request; nothing else is created
per request but the `Exchange`: time-outs are watched by one timer that sweeps all open exchanges.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from granian.rsgi import ProtocolClosed, ProtocolError  # type: ignore[attr-defined]

from corelane.core.errors import (
    CorelaneError,
    DeadlineError,
    MethodNotAllowedError,
    NotReadyError,
    SlowBodyError,
)
from corelane.web.body import check_headers, read_chunks, unpacked
from corelane.web.exchange import JSON, Exchange, Headers, Observe, RequestHeaders
from corelane.web.route import Route, Routes
from corelane.web.route import Scope as RouteScope
from corelane.web.status import SHED, Failure

WATCH_AFTER_S = 0.1
"""Who waits longer is watched: a task for each request would cost more than what most of them take."""


class Scope(Protocol):
    """The part of Granian's request scope that is read here. `headers` copies all headers on every access."""

    proto: str
    method: str
    path: str
    headers: RequestHeaders


class HttpProtocol(Protocol):
    """The part of Granian's `HTTPProtocol` that is used: the body comes from it, the reply goes to it."""

    def __call__(self) -> Awaitable[bytes]:
        """The whole body."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The body in pieces."""
        ...

    async def client_disconnect(self) -> None:
        """Return when the client has closed the connection."""
        ...

    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None:
        """Send status, headers and the whole body."""
        ...


class Guard(Protocol):
    """Knows who may do what."""

    def check(self, authorization: str | None, scope: RouteScope) -> None:
        """Raise `UnauthorizedError` or `ForbiddenError` unless the header Authorization allows `scope`."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may cost: bytes of body, and seconds for the body to arrive and for the answer to be ready."""

    max_body: int
    body_timeout_s: float
    request_timeout_s: float


class HttpApplication:
    """Answers HTTP requests by `routes`.

    `on_refusal` is told the code of each refusal, `report` an unexpected error and the opaque id the caller got. What
    is shed for want of room is answered `shed_status`. `guard` is asked whether a caller may use a route, before the
    body is read.
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
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._routes = routes
        self._limits = limits
        self._observe_unrouted = observe_unrouted
        self._open: dict[Exchange, None] = {}  # in order of arrival
        self._sweep_timer: asyncio.TimerHandle | None = None
        self.on_refusal = on_refusal
        self.report = report
        self.shed_status = shed_status
        self._guard = guard
        self.monotonic = monotonic
        self.is_draining = False
        self.num_open = 0

    async def __rsgi__(self, scope: Scope, protocol: HttpProtocol) -> None:
        """Answer one request. Raises nothing but cancellation."""
        exchange = Exchange(protocol, self, self.monotonic(), self._observe_unrouted)
        self._open[exchange] = None
        self.num_open += 1
        try:
            route = self._route(exchange, scope)
            if route.method == "POST":
                body = await self._body(exchange, scope.headers, protocol)
            else:
                body = b""
            if not exchange.replied:
                route.handler(exchange, body)
            if not exchange.replied:
                await exchange.done()
        except MethodNotAllowedError as error:
            exchange.fail(error, [*JSON, ("allow", self._routes.allowed(scope.path))])
        except CorelaneError as error:
            exchange.fail(error)
        except (ProtocolClosed, ProtocolError):
            exchange.abandon()
        except asyncio.CancelledError:
            if not exchange.replied:  # else the sweep gave the body up, and Granian closes the connection
                raise
        except Exception as error:  # noqa: BLE001 - the edge: whatever it is becomes an opaque 500 and a log entry
            exchange.fail(error)
        finally:
            del self._open[exchange]
            self.num_open -= 1

    def _route(self, exchange: Exchange, scope: Scope) -> Route:
        """The route of a request whose caller may use it."""
        route = self._routes.find(scope.method, scope.path)
        exchange.observe = route.observe
        if self._guard is not None and route.scope is not None:
            self._guard.check(scope.headers.get("authorization"), route.scope)
        return route

    async def _body(self, exchange: Exchange, headers: RequestHeaders, protocol: HttpProtocol) -> bytes:
        """The whole body, within limits, without its content encoding."""
        exchange.headers = headers
        in_chunks = check_headers(headers, self._limits.max_body)
        exchange.reader = asyncio.current_task()
        body = await (read_chunks(protocol, self._limits.max_body) if in_chunks else protocol())
        exchange.reader = None
        return unpacked(body, headers, self._limits.max_body) if "content-encoding" in headers else body

    def arriving(self) -> tuple[Exchange, ...]:
        """The exchanges whose route is found, and whose handler waits for the rest of their body."""
        return tuple(exchange for exchange in self._open if exchange.is_arriving)

    def start_sweeping(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to answer 408 and 504 to exchanges that are over their time."""
        shortest_s = min(self._limits.body_timeout_s, self._limits.request_timeout_s)
        period_s = min(WATCH_AFTER_S, max(0.02, shortest_s / 20))  # a time-out is noticed at most 5 % late

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
        for exchange in list(self._open):
            age_s = now_s - exchange.arrived_s
            if age_s <= min(WATCH_AFTER_S, shortest_s):
                return  # the rest arrived later still
            exchange.watch()
            if exchange.reader is not None and age_s > self._limits.body_timeout_s:
                exchange.fail(
                    SlowBodyError(f"the body must arrive within {self._limits.body_timeout_s:g} s; send it faster")
                )
                exchange.reader.cancel()
            elif exchange.reader is None and age_s > self._limits.request_timeout_s:
                exchange.fail(
                    DeadlineError(
                        f"the answer was not ready within {self._limits.request_timeout_s:g} s; try again later"
                    )
                )

    def abort(self) -> None:
        """Answer 503 to every exchange that is still open."""
        error = NotReadyError("the server stopped before the answer was ready; send the request to another one")
        for exchange in list(self._open):
            exchange.fail(error)
            if exchange.reader is not None:
                exchange.reader.cancel()
