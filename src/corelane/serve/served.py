"""What is served now: which `ModelServer` answers for each name, and how another takes its place without a gap.

Protocols look a server up by name in `servers`, and are told when one comes or goes. A change happens within one turn
of the event loop, so a request meets the one or the other; who met the one that goes is answered by it before its
memory is released.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from corelane.core.errors import BundleError, ConfigError
from corelane.machine.heap import trim_heap
from corelane.machine.memory import MemoryManager, Reservation
from corelane.model.package import ModelPackage
from corelane.observe.log import SystemLogger
from corelane.observe.metrics import MetricsCollector
from corelane.serve.config import ServeConfig
from corelane.serve.extensions import READY, UNAVAILABLE, Listed
from corelane.serve.planned import Planned, follow, take_up
from corelane.serve.server import ModelServer

LOOK_S = 0.01  # between two looks whether the requests of a model that goes are answered


class Surface(Protocol):
    """A protocol's side of what is served."""

    def show(self, server: ModelServer) -> None:
        """Answer for the model's name by `server` from now on, in place of another."""
        ...

    def hide(self, name: str) -> None:
        """Answer for `name` no more."""
        ...


class Arriving(Protocol):
    """A request whose route led to a server that it has not reached yet."""

    @property
    def is_arriving(self) -> bool:
        """Whether that is still so."""
        ...


def _none_arriving() -> Sequence[Arriving]:
    return ()


@dataclass(slots=True)
class _Runs:
    """The tasks of a server: its loop, and the look for a plan."""

    loop: asyncio.Task[None]
    plan: asyncio.Task[None]


class ServedModels:
    """Owns the servers of one process, their loops and their change, and nothing else.

    `on_broken` is called when a loop ends that was not asked to. `arriving` gives the requests that may hold an old
    route. `shared` is a folder in which the workers of the server share weights. Belongs to one event loop; packages
    are loaded and released in one other thread.
    """

    def __init__(
        self,
        config: ServeConfig,
        *,
        metrics: MetricsCollector,
        memory: MemoryManager,
        logger: SystemLogger,
        on_broken: Callable[[], None],
        shared: Path | None = None,
    ) -> None:
        self.servers: dict[str, ModelServer] = {}
        self.beside: dict[str, Listed] = {}
        self.arriving: Callable[[], Sequence[Arriving]] = _none_arriving
        self.surfaces: list[Surface] = []
        self._config = config
        self._metrics = metrics
        self._memory = memory
        self._logger = logger
        self._on_broken = on_broken
        self._shared = shared
        self._runs: dict[ModelServer, _Runs] = {}
        self._held: set[ModelServer] = set()  # those that serve, and those that are on their way out
        self._queues: dict[str, Reservation] = {}  # of each model one, whichever version has it
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")

    # --- asking -------------------------------------------------------------------------------------------------------

    @property
    def are_ready(self) -> bool:
        """Whether all that is served accepts requests."""
        return all(server.is_ready for server in self.servers.values())

    def index(self, *, is_serving: bool) -> Iterator[Listed]:
        """Each model that is served, and beside it the version that is being loaded, was refused or unloaded."""
        for name, server in self.servers.items():
            version = server.model.version
            if is_serving and server.is_ready:
                yield Listed(name, version)
            else:
                yield Listed(name, version, UNAVAILABLE, "it is loading, or stopping")
        yield from self.beside.values()

    def state_of(self, server: ModelServer, *, is_serving: bool) -> dict[str, object]:
        """Whether the model is ready, and what is the matter with a version that is to take its place."""
        name = server.model.name
        state: dict[str, object] = {"name": name, "ready": is_serving and server.is_ready}
        beside = self.beside.get(name)
        if beside is not None and beside.state != READY:
            state["next"] = {"version": str(beside.version), "state": beside.state, "reason": beside.reason}
        return state

    # --- changing -----------------------------------------------------------------------------------------------------

    async def open(
        self, name: str, path: Path, plan_of: Callable[[ModelPackage], Planned], version: int
    ) -> tuple[ModelServer, Planned]:
        """Load the package at `path` off the event loop: verified, its golden rows asked, warm, run as its plan says.

        It serves nobody yet, and must be `put`. Raises what loading raises, `BundleError` when it is not `version` of
        `name`, and `ConfigError` when it does not fit what is served; then nothing is held.
        """
        loop = asyncio.get_running_loop()
        if name not in self._queues:
            self._queues[name] = self._memory.reserve(self._config.queue_bytes, "data")
        try:
            server = await loop.run_in_executor(self._loader, self._load, path)
            return server, await self._tried(server, name, version, plan_of)
        except BaseException:
            if name not in self.servers:
                self._queues.pop(name).release()
            raise

    async def _tried(
        self, server: ModelServer, name: str, version: int, plan_of: Callable[[ModelPackage], Planned]
    ) -> Planned:
        """The plan of `server`, if that may serve; it runs by it then. It is closed if it may not."""
        try:
            _check_identity(server.model, name, version)
            self._check_fits(server)
            plan = plan_of(server.model)
            await take_up(server, plan, self._logger)
        except BaseException:
            self._loader.submit(server.close)
            raise
        return plan

    def _load(self, path: Path) -> ModelServer:
        return ModelServer(
            path, self._config, metrics=self._metrics, memory=self._memory, is_queue_reserved=True, shared=self._shared
        )

    def _check_fits(self, server: ModelServer) -> None:
        """Raise `ConfigError` when callers of the version that is served could not go on with `server`."""
        former = self.servers.get(server.model.name)
        if former is None:
            return
        old, new = former.model.signature, server.model.signature
        if old.inputs != new.inputs or {t.name: t.datatype for t in old.outputs} != {
            t.name: t.datatype for t in new.outputs
        }:
            raise ConfigError(
                f"{server.model.name} version {server.model.version} must take and answer what version "
                f"{former.model.version} does, got other inputs or outputs; unload that first, or start the server anew"
            )

    async def put(self, server: ModelServer, plan: Planned) -> None:
        """Have `server` answer for its name from the next turn on; return when it does and the former one is gone."""
        loop, name = asyncio.get_running_loop(), server.model.name
        self._held.add(server)
        serving = loop.create_task(server.serve(), name=f"serve-{name}")
        serving.add_done_callback(lambda _: self._ended(server))
        self._runs[server] = _Runs(serving, loop.create_task(follow(server, plan, self._logger)))
        await asyncio.sleep(0)  # it begins to accept requests
        former = self.servers.get(name)
        self.servers[name] = server
        self.beside.pop(name, None)
        for surface in self.surfaces:
            surface.show(server)
        if former is not None:
            await self._retire(former)

    async def take_away(self, name: str, reason: str) -> None:
        """Serve the model no more: requests under way are answered, later ones meet a path that is not there."""
        server = self.servers.pop(name)
        self.beside[name] = Listed(name, server.model.version, UNAVAILABLE, reason)
        for surface in self.surfaces:
            surface.hide(name)
        await self._retire(server)
        self._queues.pop(name).release()

    def add_surface(self, surface: Surface) -> None:
        """Tell `surface` of what is served, now and whenever it changes."""
        self.surfaces.append(surface)
        for server in self.servers.values():
            surface.show(server)

    async def stop(self) -> list[Exception]:
        """End all loops; what is not answered yet is refused. Returns what loops had ended with before."""
        runs = list(self._runs.values())
        self._runs.clear()
        for run in runs:
            run.plan.cancel()
            run.loop.cancel()
        await asyncio.gather(*(run.plan for run in runs), return_exceptions=True)
        ends = await asyncio.gather(*(run.loop for run in runs), return_exceptions=True)
        return [end for end in ends if isinstance(end, Exception)]

    def close(self) -> None:
        """Release every model. May be called twice."""
        for server in self._held:
            server.close()
        self._loader.shutdown()
        while self._queues:
            self._queues.popitem()[1].release()

    # --- going --------------------------------------------------------------------------------------------------------

    async def _retire(self, server: ModelServer) -> None:
        """Wait for the requests that met `server`, end its loop and release its memory."""
        is_drained = await self._drained(server, self.arriving())
        run = self._runs.pop(server)
        run.plan.cancel()
        run.loop.cancel()
        await asyncio.gather(run.plan, run.loop, return_exceptions=True)
        name, version = server.model.name, server.model.version
        self._logger.inference.info("model_released", model=name, version=version, complete=is_drained)
        await asyncio.get_running_loop().run_in_executor(self._loader, _release, server)
        self._held.discard(server)

    async def _drained(self, server: ModelServer, arriving: Sequence[Arriving]) -> bool:
        """Whether all that met `server` was answered within the time that a request may take, and a stop."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + max(self._config.request_timeout_s, self._config.drain_timeout_s)
        while not server.is_idle or any(exchange.is_arriving for exchange in arriving):
            if loop.time() > until_s or not server.is_ready:
                return False
            await asyncio.sleep(LOOK_S)
        return True

    def _ended(self, server: ModelServer) -> None:
        if server in self._runs:  # else it was asked to
            self._on_broken()


def _check_identity(model: ModelPackage, name: str, version: int) -> None:
    if (model.name, model.version) != (name, version):
        raise BundleError(
            f"the package must be version {version} of {name} as where it lies says, "
            f"got version {model.version} of {model.name}; publish it with `corelane models publish`"
        )


def _release(server: ModelServer) -> None:
    server.close()
    trim_heap()
