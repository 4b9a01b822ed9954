"""One worker process: loads the packages, serves them over HTTP on the shared port, and drains when told to stop.

The supervisor starts it with a JSON file that says what to serve; it tells the supervisor when it accepts requests.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop
from pydantic import Field

from corelane.core.config import Section
from corelane.core.errors import WorkerLostError
from corelane.machine.memory import MemoryManager
from corelane.machine.pool_metrics import watch_pools
from corelane.machine.pressure import PressureWatch
from corelane.machine.process import cpu_seconds, resident_bytes
from corelane.machine.worker_socket import read_metrics, serve_metrics, short_address, socket_path
from corelane.observe.config import ObserveConfig
from corelane.observe.log import SystemLogger
from corelane.observe.metrics import MetricsCollector
from corelane.serve.config import ServeConfig
from corelane.serve.http import UNROUTED, ModelRoutes
from corelane.serve.planned import Planned, follow, take_up
from corelane.serve.server import ModelServer
from corelane.web.embed import HttpServer, Stopping
from corelane.web.http import HttpApplication, Limits
from corelane.web.listen import Address
from corelane.web.status import Failure

if TYPE_CHECKING:
    from corelane.serve.grpc import GrpcServer

READY_SOCKET = "ready"
SUPERVISOR = "supervisor"
"""The names under which the supervisor listens in the socket directory: for workers' readiness, and for metrics."""


class WorkerDescription(Section):
    """What a worker is told: who it is, what it serves, its memory and where the sockets of its siblings lie."""

    name: str
    packages: tuple[Path, ...] = Field(min_length=1)
    plans: tuple[Planned, ...] = Field(min_length=1)
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

    def report(self, error: BaseException, failure: Failure) -> None:
        """Log what a caller was told only an id of."""
        detail = "".join(traceback.format_exception(error))
        self._logger.inference.error(
            "request_failed", error_id=failure.error_id, kind=type(error).__name__, detail=detail
        )


def work(description: WorkerDescription) -> int:
    """Serve as `description` says until SIGTERM or SIGINT; return the exit code."""
    # Arrow imports pandas with its first array wherever that is installed: half a second and 50 MB for nothing.
    sys.modules.setdefault("pandas", None)  # type: ignore[arg-type]
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
    servers = [ModelServer(path, config, metrics=metrics, memory=memory) for path in description.packages]
    planned = list(zip(servers, description.plans, strict=True))
    are_planned = [await take_up(server, plan, logger) for server, plan in planned]
    http = HttpServer(
        _application(servers, lifecycle, config, metrics),
        Address(description.ip, description.port),
        max_connections=config.max_connections,
        header_timeout_s=config.header_timeout_s,
    )
    _watch(servers, metrics)
    loops = [loop.create_task(server.serve(), name=f"serve-{server.model.name}") for server in servers]
    followers = [
        loop.create_task(follow(server, plan, logger))
        for (server, plan), is_planned in zip(planned, are_planned, strict=True)
        if not is_planned
    ]
    for task in loops:
        task.add_done_callback(lambda _: lifecycle.end())  # a loop that breaks ends the worker; another is started
    await asyncio.sleep(0)  # each begins to accept requests
    grpc_server = await _started_grpc(servers, lifecycle, description, metrics)
    _settle_memory()
    stopping = Stopping(config.announce_s, config.drain_timeout_s)
    is_drained = await http.run(lifecycle.stop, stopping, lambda: lifecycle.begin(servers))
    if grpc_server is not None:
        await grpc_server.stop(config.drain_timeout_s)
    for task in (*loops, *followers):
        task.cancel()
    await asyncio.gather(*followers, return_exceptions=True)
    ends = await asyncio.gather(*loops, return_exceptions=True)
    broken = [end for end in ends if not isinstance(end, asyncio.CancelledError)]
    logger.system.info("worker_drained", worker=description.name, complete=is_drained, broken=list(map(repr, broken)))
    if not is_drained:
        logger.close()
        os._exit(0)  # a run that hangs holds its thread, and Python would wait for it for ever
    for server in servers:
        server.close()
    return 1 if broken else 0


async def _started_grpc(
    servers: Sequence[ModelServer], lifecycle: _Lifecycle, description: WorkerDescription, metrics: MetricsCollector
) -> GrpcServer | None:
    if description.grpc_port is None:
        return None
    from corelane.serve.grpc import GrpcServer  # noqa: PLC0415 - memory and time that HTTP alone does not need

    server = GrpcServer(
        {server.model.name: server for server in servers},
        lifecycle,
        metrics=metrics,
        report=lifecycle.report,
        max_body=description.serve.max_body,
        request_timeout_s=description.serve.request_timeout_s,
        has_reflection=description.serve.grpc_reflection,
    )
    await server.start(description.ip, description.grpc_port)
    return server


def _application(
    servers: Sequence[ModelServer], lifecycle: _Lifecycle, config: ServeConfig, metrics: MetricsCollector
) -> HttpApplication:
    models = ModelRoutes(
        {server.model.name: server for server in servers},
        lifecycle,
        metrics=metrics,
        request_timeout_s=config.request_timeout_s,
    )
    return HttpApplication(
        models.build(),
        Limits(config.max_body, config.body_timeout_s, config.request_timeout_s),
        observe_unrouted=models.observe(UNROUTED),
        on_refusal=lambda code: metrics.counter("corelane_inference_rejected_requests_total", code).inc(),
        report=lifecycle.report,
        shed_status=config.shed_status,
    )


def _watch(servers: Sequence[ModelServer], metrics: MetricsCollector) -> None:
    queues = [server.request_queue for server in servers]
    metrics.watch("corelane_inference_queue_requests", lambda: sum(queue.qsize() for queue in queues))
    metrics.watch("corelane_inference_queue_bytes", lambda: sum(queue.num_bytes for queue in queues))


def _allow_connections(max_connections: int) -> None:
    """Raise the limit of open files as far as the system allows, for one file per connection and some of our own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_connections + 256
    if soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _settle_memory() -> None:
    """Take what was loaded out of the garbage collector's sight: its full passes would hold up requests in flight."""
    gc.collect()
    gc.freeze()
