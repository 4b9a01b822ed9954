"""What a worker answers its supervisor, on a Unix socket that only this user can reach.

It is asked for what callers of the management port want of it (`management.py`), who have been let in there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson

from corelane.serve.control import ModelControl
from corelane.serve.http import Lifecycle, slowest_of
from corelane.serve.repository import RepositoryRoutes
from corelane.serve.served import ServedModels
from corelane.web.exchange import Exchange
from corelane.web.http import HttpApplication, Limits
from corelane.web.route import Route, Routes
from corelane.web.server import HttpServer, Stopping
from corelane.web.status import HTTP_STATUS, Failure

READY = "/v2/health/ready"
LOOK_S = 1.0
"""How long a worker may take to answer what it only has to look up."""

CHANGE_S = 600.0
"""How long loading or unloading may take, with fetching a package and draining the one before."""

MAX_BODY = 64 << 10
"""Bytes of what a caller of management may send: parameters of a load are a few."""

MAX_CONNECTIONS = 256
"""How many connections of the supervisor are open at most: one for each caller of management, and one more to look."""

STOPPING = Stopping(announce_s=0.0, drain_timeout_s=1.0)
"""Who waits for a change that is not done when the server ends is told so."""

MODELS, SLOWEST = "/v2/models/", "/slowest"


def management_socket(sockets: Path, worker: str) -> Path:
    """Where the worker called `worker` answers its supervisor."""
    return sockets / f"{worker}.http"


def slowest_path(name: str) -> str:
    """The path of the slowest requests of a model."""
    return f"{MODELS}{name}{SLOWEST}"


def managed_routes(models: ServedModels, lifecycle: Lifecycle, control: ModelControl) -> Routes:
    """Readiness, the list of models, loading and unloading by `control`, and the slowest requests of a model."""

    def send_ready(exchange: Exchange, _body: bytes) -> None:
        is_ready = lifecycle.is_ready and models.are_ready
        exchange.reply(orjson.dumps({"ready": is_ready}), 200 if is_ready else HTTP_STATUS["not_ready"])

    repository = RepositoryRoutes(models, control, is_serving=lambda: lifecycle.is_ready, observe=observe_nothing)

    def beyond(path: str) -> Route | None:
        return repository.change(path) or _slowest(models, path)

    return Routes(
        [Route("GET", READY, send_ready, observe_nothing), repository.index()],
        lambda path: f"the path must be one that a worker answers its supervisor, got {path[:80]!r}",
        beyond,
    )


@asynccontextmanager
async def answering_supervisor(
    routes: Routes, sockets: Path, worker: str, report: Callable[[BaseException, Failure], None]
) -> AsyncIterator[None]:
    """Answer by `routes` on the socket of `worker` until the context ends."""
    application = HttpApplication(
        routes,
        Limits(MAX_BODY, LOOK_S, CHANGE_S),
        observe_unrouted=observe_nothing,
        on_refusal=lambda _: None,
        report=report,
    )
    path = management_socket(sockets, worker)
    server = HttpServer(application, path, max_connections=MAX_CONNECTIONS, header_timeout_s=LOOK_S)
    stop, is_listening = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(server.run(stop, STOPPING, is_listening.set))
    await is_listening.wait()
    try:
        yield
    finally:
        stop.set()
        await running


def observe_nothing(_status: int, _elapsed_s: float) -> None:
    """Count no request: these are not those that a server is there for."""


def _slowest(models: ServedModels, path: str) -> Route | None:
    server = models.servers.get(path.removeprefix(MODELS).removesuffix(SLOWEST))
    if server is None or path != slowest_path(server.model.name):
        return None
    return Route("GET", path, lambda exchange, _body: exchange.reply(orjson.dumps(slowest_of(server))), observe_nothing)
