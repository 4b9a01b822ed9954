"""One worker process: loads the packages, serves them over HTTP on the shared port, and drains when told to stop.

The supervisor starts it with a JSON file that says what to serve; it tells the supervisor when it accepts requests.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import re
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from pydantic import Field

from corelane.core.clock import SystemClock
from corelane.core.config import Section
from corelane.core.errors import NotFoundError, WorkerLostError
from corelane.machine.memory import MemoryManager
from corelane.machine.pool_metrics import watch_pools
from corelane.machine.pressure import PressureWatch
from corelane.machine.process import cpu_seconds, resident_bytes
from corelane.machine.worker_socket import read_metrics, serve_metrics, short_address, socket_path
from corelane.model.description import NAME
from corelane.model.registry import ModelManager, Reference
from corelane.observe.config import ObserveConfig
from corelane.observe.log import SystemLogger
from corelane.observe.metrics import MetricsCollector
from corelane.serve.batch import RequestQueue
from corelane.serve.config import ServeConfig
from corelane.serve.control import ELSEWHERE, NOT_ALLOWED, ExplicitControl, ModelControl, NoControl
from corelane.serve.http import UNROUTED, ModelRoutes
from corelane.serve.keeper import Keeper
from corelane.serve.managed import answering_supervisor, managed_routes
from corelane.serve.origin import FixedPackage, Followed, InRegistry
from corelane.serve.planned import Planned
from corelane.serve.served import ServedModels
from corelane.serve.server import ModelServer
from corelane.serve.tokens import TokenFile
from corelane.serve.watchdog import end_if_hung
from corelane.web.http import HttpApplication, Limits
from corelane.web.listen import Address
from corelane.web.server import HttpServer, Stopping
from corelane.web.status import Failure

if TYPE_CHECKING:
    from corelane.serve.grpc import GrpcServer

CONTROL = "control"
"""In the socket directory: where workers leave word of models that were loaded or unloaded."""

WEIGHTS = "weights"
"""In the socket directory: graphs whose weights the workers share."""

SWITCH_S = 0.0005
"""How long a run that has ended waits at most for the interpreter while the event loop is busy: Python's own 5 ms are
half of what many runs take.
"""

YOUNG_OBJECTS = 20_000
"""Objects made and still there before the garbage collector looks at them: those of hundreds of requests."""

READY_SOCKET = "ready"
SUPERVISOR = "supervisor"
"""The names under which the supervisor listens in the socket directory: for workers' readiness, and for metrics."""


class WorkerDescription(Section):
    """What a worker is told: who it is, what it serves, its memory and where the sockets of its siblings lie."""

    name: str
    packages: tuple[Path, ...] = ()
    plans: tuple[Planned, ...] = ()
    followed: Followed | None = None
    siblings: tuple[str, ...] = ()
    ip: str
    port: int
    grpc_port: int | None = None
    sockets: Path
    memory_bytes: int = Field(ge=1)
    serve: ServeConfig
    observe: ObserveConfig


class _Lifecycle:
    """Ready from the moment requests are accepted until the end begins; metrics are those of all workers."""

    def __init__(self, description: WorkerDescription, render: Callable[[], bytes], logger: SystemLogger) -> None:
        self._description = description
        self._render = render
        self._logger = logger
        self.stop = asyncio.Event()
        self.is_ready = False

    def begin(self, servers: Iterable[ModelServer]) -> None:
        """Requests are accepted now: say so to health checks, the supervisor and the log."""
        self.is_ready = not self.stop.is_set()
        ready = self._description.sockets / READY_SOCKET
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller, short_address(ready) as address:
            teller.sendto(self._description.name.encode(), address)
        for server in servers:
            self._logger.inference.info(
                "model_serving",
                worker=self._description.name,
                model=server.model.name,
                version=server.model.version,
                fixed_us=round(server.pace.fixed_s * 1e6, 1),
                row_us=round(server.pace.row_s * 1e6, 1),
            )

    def end(self) -> None:
        """Stop being ready, and drain."""
        self.is_ready = False
        self.stop.set()

    def exposition(self) -> bytes:
        """The merged metrics, from the supervisor; this worker's own if the supervisor cannot answer."""
        try:
            return read_metrics(socket_path(self._description.sockets, SUPERVISOR))
        except WorkerLostError:
            return self._render()

    def tell_tokens(self, message: str) -> None:
        """Log that the file of tokens cannot be read any more; those that were known go on."""
        self._logger.inference.error("tokens_unreadable", worker=self._description.name, detail=message)

    def tell_hung(self, seconds: float) -> None:
        """Log that a run hangs, just before this process ends for it."""
        self._logger.inference.error("run_hung", worker=self._description.name, seconds=round(seconds, 1))
        self._logger.close()

    def report(self, error: BaseException, failure: Failure) -> None:
        """Log what a caller was told only an id of."""
        detail = "".join(traceback.format_exception(error))
        self._logger.inference.error(
            "request_failed", error_id=failure.error_id, kind=type(error).__name__, detail=detail
        )


def work(description: WorkerDescription) -> int:
    """Serve as `description` says until SIGTERM or SIGINT; return the exit code."""
    sys.setswitchinterval(SWITCH_S)
    _allow_connections(description.serve.max_connections)
    metrics = MetricsCollector()
    logger = SystemLogger(description.observe, metrics=metrics, read_memory_bytes=resident_bytes)
    with logger, serve_metrics(socket_path(description.sockets, description.name), metrics.render):
        metrics.watch("corelane_system_resident_bytes", resident_bytes)
        metrics.watch("corelane_system_cpu_seconds_total", cpu_seconds)
        memory = MemoryManager(math.inf, limit_bytes=description.memory_bytes)
        watch_pools(metrics, memory)
        with PressureWatch(memory), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(description, metrics, logger, memory))


async def _serve(
    description: WorkerDescription, metrics: MetricsCollector, logger: SystemLogger, memory: MemoryManager
) -> int:
    loop = asyncio.get_running_loop()
    config = description.serve
    lifecycle = _Lifecycle(description, metrics.render, logger)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lifecycle.end)
    shared = description.sockets / WEIGHTS if len(description.siblings) > 1 else None
    models = ServedModels(config, metrics=metrics, memory=memory, logger=logger, on_broken=lifecycle.end, shared=shared)
    keepers = {keeper.name: keeper for keeper in _keepers(description, models, logger)}
    control = _control(description, keepers, models, logger)
    await _start(keepers, control)
    is_elsewhere = config.model_control == "explicit" and config.port_of_management is not None
    public_control = NoControl(ELSEWHERE) if is_elsewhere else control
    routes = ModelRoutes(
        models, lifecycle, metrics=metrics, request_timeout_s=config.request_timeout_s, control=public_control
    )
    models.add_surface(routes)
    application = _application(routes, lifecycle, config, metrics)
    models.arriving = application.arriving
    http = HttpServer(
        application,
        Address(description.ip, description.port),
        max_connections=config.max_connections,
        header_timeout_s=config.header_timeout_s,
        tls=config.tls,
    )
    _watch(models, metrics)
    grpc_server = await _started_grpc(models, lifecycle, description, metrics, public_control)
    _settle_memory()
    watchdog = end_if_hung(models.servers.values, config.hang_timeout_s, lifecycle.tell_hung)
    followers = [loop.create_task(work) for work in (watchdog, *_following(config, keepers, control))]
    for task in followers:
        task.add_done_callback(lambda _: lifecycle.end())  # as for a model's loop: another worker is started
    stopping = Stopping(config.announce_s, config.drain_timeout_s)
    managed = managed_routes(models, lifecycle, control)
    async with answering_supervisor(managed, description.sockets, description.name, lifecycle.report):
        is_drained = await http.run(lifecycle.stop, stopping, lambda: lifecycle.begin(models.servers.values()))
        if grpc_server is not None:
            await grpc_server.stop(config.drain_timeout_s)
    for task in followers:
        task.cancel()
    ends = [*await asyncio.gather(*followers, return_exceptions=True), *await models.stop()]
    broken = [end for end in ends if isinstance(end, Exception)]
    logger.system.info("worker_drained", worker=description.name, complete=is_drained, broken=list(map(repr, broken)))
    if not is_drained:
        logger.close()
        os._exit(0)  # a run that hangs holds its thread, and Python would wait for it for ever
    models.close()
    return 1 if broken else 0


def _keepers(description: WorkerDescription, models: ServedModels, logger: SystemLogger) -> Iterator[Keeper]:
    """Of the packages that were named by their path, and of the models of the registry that were named at the start."""
    for path, plan in zip(description.packages, description.plans, strict=True):
        yield Keeper(FixedPackage(path, plan), models, logger)
    followed = description.followed
    if followed is not None:
        manager = ModelManager(followed.url, options=followed.options)
        for text in followed.models:
            yield Keeper(InRegistry(manager, Reference.parse(text), followed), models, logger)


def _control(
    description: WorkerDescription, keepers: Mapping[str, Keeper], models: ServedModels, logger: SystemLogger
) -> NoControl | ExplicitControl:
    if description.serve.model_control == "none":
        return NoControl(NOT_ALLOWED)
    followed = description.followed

    def keeper_of(name: str) -> Keeper:
        if followed is None or re.fullmatch(NAME, name) is None:
            raise NotFoundError(f"the model must be one that the server knows, got {name[:80]!r}")
        manager = ModelManager(followed.url, options=followed.options)
        return Keeper(InRegistry(manager, Reference(name), followed), models, logger)

    return ExplicitControl(
        keepers,
        keeper_of,
        logger,
        folder=description.sockets / CONTROL,
        own=description.name,
        siblings=description.siblings,
        timeout_s=description.serve.request_timeout_s,
    )


async def _start(keepers: Mapping[str, Keeper], control: NoControl | ExplicitControl) -> None:
    """Load what is served first, unless callers have decided otherwise since the server began."""
    decided = await control.catch_up() if isinstance(control, ExplicitControl) else frozenset()
    for name, keeper in keepers.items():
        if name not in decided:
            await keeper.start()


def _following(
    config: ServeConfig, keepers: Mapping[str, Keeper], control: NoControl | ExplicitControl
) -> Iterator[Coroutine[Any, Any, None]]:
    """What goes on as long as the worker serves: to look for other versions, or for what siblings were told."""
    if isinstance(control, ExplicitControl):
        yield control.follow()
        return
    for keeper in keepers.values():
        if keeper.is_moving:
            yield keeper.follow(config.poll_s)


async def _started_grpc(
    models: ServedModels,
    lifecycle: _Lifecycle,
    description: WorkerDescription,
    metrics: MetricsCollector,
    control: ModelControl,
) -> GrpcServer | None:
    if description.grpc_port is None:
        return None
    from corelane.serve.grpc import GrpcServer  # noqa: PLC0415 - memory and time that HTTP alone does not need

    server = GrpcServer(
        models,
        lifecycle,
        metrics=metrics,
        report=lifecycle.report,
        max_body=description.serve.max_body,
        max_calls=description.serve.max_connections,
        request_timeout_s=description.serve.request_timeout_s,
        control=control,
        has_reflection=description.serve.grpc_reflection,
        guard=_guard(description.serve, lifecycle),
        tls=description.serve.tls,
    )
    models.add_surface(server)
    await server.start(description.ip, description.grpc_port)
    return server


def _application(
    routes: ModelRoutes, lifecycle: _Lifecycle, config: ServeConfig, metrics: MetricsCollector
) -> HttpApplication:
    return HttpApplication(
        routes.routes,
        Limits(config.max_body, config.body_timeout_s, config.request_timeout_s, config.arriving_bytes),
        observe_unrouted=routes.observe(UNROUTED),
        on_refusal=lambda code: metrics.counter("corelane_inference_rejected_requests_total", code).inc(),
        report=lifecycle.report,
        shed_status=config.shed_status,
        guard=_guard(config, lifecycle),
    )


def _guard(config: ServeConfig, lifecycle: _Lifecycle) -> TokenFile | None:
    return None if config.tokens is None else TokenFile(Path(config.tokens), SystemClock(), lifecycle.tell_tokens)


def _watch(models: ServedModels, metrics: MetricsCollector) -> None:
    def queues() -> list[RequestQueue]:
        return [server.request_queue for server in list(models.servers.values())]

    metrics.watch("corelane_inference_queue_requests", lambda: sum(queue.qsize() for queue in queues()))
    metrics.watch("corelane_inference_queue_bytes", lambda: sum(queue.num_bytes for queue in queues()))


def _allow_connections(max_connections: int) -> None:
    """Raise the limit of open files as far as the system allows, for one file per connection and some of our own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_connections + 256
    if soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _settle_memory() -> None:
    """Take what was loaded out of the garbage collector's sight: its full passes would hold up requests in flight.

    A request leaves no cycles behind, so that looking for them after each batch would only cost time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
