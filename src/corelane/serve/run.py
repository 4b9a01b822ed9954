"""Running a server: the supervising process, and the worker process behind the hidden command `serve-worker`.

`app` calls `serve`; `cli` hands the arguments of `serve-worker` to `run_worker`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from corelane.serve.config import ServeConfig

if TYPE_CHECKING:
    from corelane.machine.cpu import Machine
    from corelane.observe.config import ObserveConfig
    from corelane.observe.log import SystemLogger


def serve(
    packages: Sequence[Path],
    config: ServeConfig,
    *,
    observe: ObserveConfig,
    logger: SystemLogger,
    machine: Machine,
    announce: Callable[[str], None],
) -> int:
    """Serve `packages` until SIGTERM or SIGINT and return the exit code.

    This process supervises; `config.workers` children serve. `announce` is called once with the URL when all workers
    accept requests. Raises `ConfigError` (no package, two of one name, a host that is none), `BundleError` for a broken
    package and `PortInUseError`, all before a child is started.
    """
    raise NotImplementedError


def run_worker(arguments: Sequence[str]) -> int:
    """Serve as one worker; `arguments` are those after `serve-worker`. Returns the exit code."""
    raise NotImplementedError


def worker_argv(spec: Path) -> tuple[str, ...]:
    """The command line of one worker, described by the JSON file `spec`."""
    return (sys.executable, "-m", "corelane", "serve-worker", "--spec", str(spec))
