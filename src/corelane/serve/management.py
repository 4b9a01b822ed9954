"""Management on a port of its own, answered by the supervisor: it goes on while a worker hangs, crashes or is given up.

What the supervisor knows it answers itself; for the rest it asks workers over their sockets (`managed.py`). What
changes something is sent to one worker and never twice.
"""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import orjson
import uvloop

from corelane.core.clock import SystemClock
from corelane.core.errors import NotFoundError, NotReadyError, WorkerLostError
from corelane.core.types import JsonObject
from corelane.observe.log import SystemLogger
from corelane.observe.metrics import CONTENT_TYPE
from corelane.serve.callers import PatientGuard, admission
from corelane.serve.config import ServeConfig
from corelane.serve.http import server_metadata
from corelane.serve.managed import (
    CHANGE_S,
    LOOK_S,
    MAX_BODY,
    MODELS,
    READY,
    SLOWEST,
    STOPPING,
    management_socket,
    observe_nothing,
    slowest_path,
)
from corelane.serve.repository import INDEX, change_of
from corelane.serve.slowest import KEPT
from corelane.serve.tokens import TokenFile
from corelane.web.ask import Answer, ask
from corelane.web.exchange import Exchange, Headers
from corelane.web.http import HttpApplication, Limits
from corelane.web.later import Later, StatusAndBody
from corelane.web.listen import Address
from corelane.web.route import Handler, Route, Routes
from corelane.web.server import HttpServer
from corelane.web.status import HTTP_STATUS, Failure

PLAIN: Headers = [("content-type", CONTENT_TYPE)]

MAX_CONNECTIONS = 128
"""Open connections of callers of management; more wait to be accepted."""

Health: TypeAlias = Literal["ready", "not ready", "absent", "silent"]
"""`absent`: nobody listens, so no request is lost there; `silent`: somebody listens and does not answer."""


@dataclass(frozen=True, slots=True)
class Overseen:
    """The workers: their names, where their sockets lie, what the supervisor tells of each, and their metrics."""

    names: Sequence[str]
    sockets: Path
    tell: Callable[[], Sequence[JsonObject]]
    metrics: Callable[[], bytes]


class ManagementRoutes:
    """The routes of management. `on_change` is told of each change that is asked for: its path and its status."""

    def __init__(self, workers: Overseen, on_change: Callable[[str, int], None]) -> None:
        self._workers = workers
        self._on_change = on_change
        self._later = Later()
        self.routes = Routes(
            [
                _route("GET", "/v2", _fixed(server_metadata()), "read"),
                _route("GET", "/v2/health/live", _fixed({"live": True}), None),
                _route("GET", READY, self._sending(lambda _: self._ready()), None),
                _route("GET", "/metrics", self._send_metrics, "read"),
                _route("GET", "/workers", self._sending(lambda _: self._told()), "read"),
                _route("POST", INDEX, self._sending(lambda body: self._from_one("POST", INDEX, body, LOOK_S)), "read"),
            ],
            _explain,
            self._of_a_model,
        )

    def _of_a_model(self, path: str) -> Route | None:
        """The routes whose path names a model, whether there is one or not."""
        if change_of(path) is not None:
            return _route("POST", path, self._sending(lambda body: self._change(path, body)), "manage")
        name = path.removeprefix(MODELS).removesuffix(SLOWEST)
        if path == slowest_path(name) and "/" not in name:
            return _route("GET", path, self._sending(lambda _: self._slowest(name)), "read")
        return None

    # --- what is answered ---------------------------------------------------------------------------------------------

    async def _ready(self) -> StatusAndBody:
        """Ready is a server of which a worker is, and none would leave a request without an answer."""
        health = await self._health()
        states = set(health.values())
        is_ready = "ready" in states and states <= {"ready", "absent"}
        body = orjson.dumps({"ready": is_ready, "workers": health})
        return (200 if is_ready else HTTP_STATUS["not_ready"]), body

    async def _told(self) -> StatusAndBody:
        health = await self._health()
        workers = [{**worker, "health": health[worker["name"]]} for worker in self._workers.tell()]
        return 200, orjson.dumps({"workers": workers})

    def _send_metrics(self, exchange: Exchange, _body: bytes) -> None:
        self._later.make(exchange, self._workers.metrics, PLAIN)

    async def _change(self, path: str, body: bytes) -> StatusAndBody:
        status, reply = await self._from_one("POST", path, body, CHANGE_S)
        self._on_change(path, status)
        return status, reply

    async def _slowest(self, name: str) -> StatusAndBody:
        """Those of all workers together; `silent` names the workers that did not answer."""
        path = slowest_path(name)
        answers = await self._from_all("GET", path)
        told = {
            worker: orjson.loads(answer.body)
            for worker, answer in answers.items()
            if isinstance(answer, Answer) and answer.status == 200
        }
        silent = [worker for worker, answer in answers.items() if isinstance(answer, WorkerLostError)]
        if not any(isinstance(answer, Answer) for answer in answers.values()):
            raise NotReadyError("a worker must be running and answer, got none that does; try again in a moment")
        if not told:
            raise NotFoundError(f"the model must be one that is served, got {name[:80]!r}")
        merged = [{**one, "worker": worker} for worker, reply in told.items() for one in reply["slowest"]]
        merged.sort(key=lambda one: one["total_us"], reverse=True)
        facts = {**next(iter(told.values())), "slowest": merged[:KEPT], "silent": silent}
        return 200, orjson.dumps(facts)

    # --- asking workers -----------------------------------------------------------------------------------------------

    async def _health(self) -> Mapping[str, Health]:
        return {worker: _health_of(answer) for worker, answer in (await self._from_all("GET", READY)).items()}

    async def _from_all(self, method: str, path: str) -> Mapping[str, Answer | BaseException]:
        names, sockets = self._workers.names, self._workers.sockets
        asking = [ask(management_socket(sockets, name), method, path, timeout_s=LOOK_S) for name in names]
        return dict(zip(names, await asyncio.gather(*asking, return_exceptions=True), strict=True))

    async def _from_one(self, method: str, path: str, body: bytes, timeout_s: float) -> StatusAndBody:
        """The answer of one worker, if it can be a ready one. Raises `NotReadyError` when none answers."""
        health = await self._health()
        chosen = next((name for state in ("ready", "not ready") for name in health if health[name] == state), None)
        if chosen is None:
            raise NotReadyError(f"a worker must be running, got {dict(health)}; try again in a moment")
        socket = management_socket(self._workers.sockets, chosen)
        answer = await ask(socket, method, path, body, timeout_s=timeout_s)
        return answer.status, answer.body

    def _sending(self, answer: Callable[[bytes], Awaitable[StatusAndBody]]) -> Handler:
        return lambda exchange, body: self._later.wait(exchange, answer(body))


def management_server(
    routes: ManagementRoutes, address: Address, config: ServeConfig, logger: SystemLogger
) -> HttpServer:
    """What serves `routes` at `address` to who may call them. Off loopback it speaks TLS, if the server has that."""

    def report(error: BaseException, failure: Failure) -> None:
        detail = "".join(traceback.format_exception(error))
        logger.system.error("management_failed", error_id=failure.error_id, kind=type(error).__name__, detail=detail)

    def tell(message: str) -> None:
        logger.system.error("tokens_unreadable", worker="management", detail=message)

    clock = SystemClock()
    guard = None if config.tokens is None else PatientGuard(TokenFile(Path(config.tokens), clock, tell), clock)
    application = HttpApplication(
        routes.routes,
        Limits(MAX_BODY, config.body_timeout_s, CHANGE_S),
        observe_unrouted=observe_nothing,
        on_refusal=lambda _: None,
        report=report,
        guard=guard,
        admit=admission(config.management_host, has_tokens=guard is not None),
    )
    return HttpServer(
        application,
        address,
        max_connections=MAX_CONNECTIONS,
        header_timeout_s=config.header_timeout_s,
        tls=config.management_tls,
    )


@contextmanager
def managing(server: HttpServer) -> Iterator[None]:
    """Have `server` answer from a thread of its own until the context ends. Raises what keeps it from listening."""
    stop: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        is_over = asyncio.Event()
        loop = asyncio.get_running_loop()
        await server.run(is_over, STOPPING, lambda: stop.set_result((loop, is_over)))

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve())
        except BaseException as error:
            if stop.done():
                raise
            stop.set_exception(error)

    thread = threading.Thread(target=run, name="management", daemon=True)
    thread.start()
    loop, is_over = stop.result()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(is_over.set)
        thread.join()


def _route(method: str, path: str, handler: Handler, scope: Literal["read", "manage"] | None) -> Route:
    return Route(method, path, handler, observe_nothing, scope)


def _fixed(message: JsonObject) -> Handler:
    body = orjson.dumps(message)
    return lambda exchange, _: exchange.reply(body)


def _health_of(answer: Answer | BaseException) -> Health:
    if isinstance(answer, Answer):
        return "ready" if answer.status == 200 else "not ready"
    if isinstance(answer, NotReadyError):
        return "absent"
    if isinstance(answer, WorkerLostError):
        return "silent"
    raise answer


def _explain(path: str) -> str:
    return (
        f"the path must be one of management, got {path[:80]!r}; /v2/health/ready, /workers, /metrics, {INDEX}, "
        "/v2/repository/models/<name>/load and /unload and /v2/models/<name>/slowest are"
    )
