"""Running a server: the supervising process, and the worker process behind `serve-worker`.

`app` calls `serve`; `worker_main.py` hands the arguments of `serve-worker` to `run_worker`. Everything that can be
refused is refused here, before a child is started.
"""

from __future__ import annotations

import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from corelane.core.errors import ConfigError
from corelane.core.types import JsonObject
from corelane.machine.supervise import Supervisor, WorkerSpec
from corelane.machine.worker_socket import serve_metrics, short_address, socket_path
from corelane.model.package import ModelPackage
from corelane.serve.config import ServeConfig
from corelane.serve.control import note_given_up
from corelane.serve.management import ManagementRoutes, Overseen, management_server, managing
from corelane.serve.origin import Followed, first_packages
from corelane.serve.planned import Planned
from corelane.serve.tokens import read_tokens
from corelane.serve.worker import CONTROL, READY_SOCKET, SUPERVISOR, WorkerDescription, work
from corelane.web.listen import Address, reserve
from corelane.web.server import ABORT_GRACE_S

if TYPE_CHECKING:
    from corelane.machine.cpu import Machine
    from corelane.observe.config import ObserveConfig
    from corelane.observe.log import SystemLogger
    from corelane.web.tls import Tls

KILL_AFTER_S = 5.0  # what a worker may take beyond its drain before it is killed


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a server accepts requests: over HTTP, over gRPC and for management, if it does."""

    url: str
    grpc_port: int | None = None
    management_url: str | None = None


def serve(
    packages: Sequence[Path],
    config: ServeConfig,
    *,
    plans: Sequence[Planned] | None = None,
    followed: Followed | None = None,
    observe: ObserveConfig,
    logger: SystemLogger,
    machine: Machine,
    memory_bytes: int,
    announce: Callable[[Listening], None],
) -> int:
    """Serve `packages`, and what is `followed` in a registry, until SIGTERM or SIGINT and return the exit code.

    This process supervises; `config.workers` children serve, and share `memory_bytes` out between them. `announce` is
    called once, from another thread, with where it listens when all workers accept requests. `plans` say how each
    package is run, the safe way without. Must be called from the main thread. Raises `ConfigError` (no
    package, two of one name, a host that is none of this machine's), `BundleError` for a broken package,
    `NotFoundError` for a model that its registry does not have and `PortInUseError`, all before a child is started.
    """
    if config.tls is not None:
        config.tls.check()
    if config.tokens is not None:
        read_tokens(Path(config.tokens))
    _check_packages(
        [*packages, *(first_packages(followed) if followed is not None else ())],
        is_none_fine=config.model_control == "explicit",
    )
    with (
        reserve(config.host, config.port) as address,
        _reserved(config.host, config.grpc_port) as grpc_address,
        _reserved(config.management_host, config.port_of_management) as management_address,
        tempfile.TemporaryDirectory(prefix="corelane-") as folder,
    ):
        sockets = Path(folder)
        listening = Listening(
            address.url(_scheme(config.tls)),
            None if grpc_address is None else grpc_address.port,
            None if management_address is None else management_address.url(_scheme(config.management_tls)),
        )
        names = [f"worker-{index}" for index in range(config.workers)]
        template = WorkerDescription(
            name="worker",
            packages=tuple(path.resolve() for path in packages),
            plans=tuple(plans or (Planned(),) * len(packages)),
            followed=followed,
            siblings=tuple(names),
            ip=address.ip,
            port=address.port,
            grpc_port=listening.grpc_port,
            sockets=sockets,
            memory_bytes=max(1, memory_bytes // config.workers),
            serve=config,
            observe=observe,
        )
        specs = [
            _spec(template, name, cpus) for name, cpus in zip(names, _shares(machine, config.workers), strict=True)
        ]
        supervisor = Supervisor(
            specs,
            socket_directory=sockets,
            grace_s=config.announce_s + config.drain_timeout_s + ABORT_GRACE_S + KILL_AFTER_S,
            on_event=_log_to(logger, sockets / CONTROL),
            own_metrics=logger.metrics_collector.render,
        )
        with (
            _stop_on_signals() as stop,
            serve_metrics(socket_path(sockets, SUPERVISOR), supervisor.metrics),
            _management(management_address, config, specs, supervisor, sockets, logger),
            _announcing(sockets, set(names), lambda: announce(listening)),
        ):
            return supervisor.run(stop)


def run_worker(arguments: Sequence[str]) -> int:
    """Serve as one worker; `arguments` are those after `serve-worker`. Returns the exit code."""
    if len(arguments) != 2 or arguments[0] != "--spec":
        raise ConfigError(f"serve-worker must be given --spec FILE, got {list(arguments)}; `corelane serve` starts it")
    return work(WorkerDescription.model_validate_json(Path(arguments[1]).read_bytes()))


def worker_argv(spec: Path) -> tuple[str, ...]:
    """The command line of one worker, described by the JSON file `spec`."""
    return (sys.executable, "-m", "corelane", "serve-worker", "--spec", str(spec))


@contextmanager
def _reserved(host: str, port: int | None) -> Iterator[Address | None]:
    """The address of `port`, held while the context lasts; None where there is no such port."""
    if port is None:
        yield None
        return
    with reserve(host, port) as address:
        yield address


def _scheme(tls: Tls | None) -> str:
    return "http" if tls is None else "https"


def _management(
    address: Address | None,
    config: ServeConfig,
    specs: Sequence[WorkerSpec],
    supervisor: Supervisor,
    sockets: Path,
    logger: SystemLogger,
) -> AbstractContextManager[None]:
    """Management at `address`, if it has one, while the context lasts."""
    if address is None:
        return nullcontext()

    def tell() -> list[JsonObject]:
        cpus = {spec.name: None if spec.cpus is None else sorted(spec.cpus) for spec in specs}
        return [{**asdict(status), "cpus": cpus[status.name]} for status in supervisor.workers]

    def log_change(path: str, status: int) -> None:
        logger.system.info("model_change_asked", path=path[:200], status=status)

    overseen = Overseen([spec.name for spec in specs], sockets, tell, supervisor.metrics)
    return managing(management_server(ManagementRoutes(overseen, log_change), address, config, logger))


def _check_packages(packages: Sequence[Path], *, is_none_fine: bool) -> None:
    if not packages and not is_none_fine:
        raise ConfigError("serve must be given at least one package, got none; name one")
    served: dict[str, Path] = {}
    for path in packages:
        name = ModelPackage.load(path).name
        if name in served:
            raise ConfigError(f"served packages must have different names, got {name!r} from {served[name]} and {path}")
        served[name] = path


def _spec(template: WorkerDescription, name: str, cpus: frozenset[int] | None) -> WorkerSpec:
    """The worker called `name`, which is told what `template` says."""
    argv = worker_argv(_describe(template.model_copy(update={"name": name})))
    return WorkerSpec(name, argv, cpus, until_stopped=True)


def _describe(description: WorkerDescription) -> Path:
    path = description.sockets / f"{description.name}.json"
    path.write_text(description.model_dump_json(), encoding="utf-8")
    return path


def _shares(machine: Machine, num_workers: int) -> Sequence[frozenset[int] | None]:
    return machine.cpu_shares(num_workers) if num_workers > 1 else (None,)


def _log_to(logger: SystemLogger, control: Path) -> Callable[[str, Mapping[str, Any]], None]:
    def log(event: str, fields: Mapping[str, Any]) -> None:
        logger.system.info(event, **fields)
        if event == "worker_restarting":
            logger.metrics_collector.counter("corelane_system_worker_restarts_total", fields["worker"]).inc()
        elif event == "worker_given_up":
            note_given_up(control, fields["worker"])

    return log


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; the former handlers are put back at the end."""
    stop = threading.Event()

    def handler(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    former = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, old in former.items():
            signal.signal(number, old)


@contextmanager
def _announcing(sockets: Path, names: set[str], announce: Callable[[], None]) -> Iterator[None]:
    """Call `announce` once all of `names` have reported.

    A thread goes on reading until the context ends: restarted workers report too, and a sender to a full socket blocks.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        with short_address(sockets / READY_SOCKET) as name:
            listener.bind(name)

        def listen() -> None:
            while name := listener.recv(256).decode():  # nothing, once the socket is shut down
                if names:
                    names.discard(name)
                    if not names:
                        announce()

        thread = threading.Thread(target=listen, name="announce", daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
