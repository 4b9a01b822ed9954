"""Keeps worker processes running: starts them, notices how they end, starts them again within a ration, stops them.

It is the only supervisor in Corelane, for server workers and for the trainer. Workers fail independently of each other;
one that keeps failing is given up with a reason, and `run` returns when none is left. How an end is to be judged is
`health.py`, a process is `child.py`, the workers' metrics are `ledger.py`.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any, Literal, TypeAlias

from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import ConfigError
from corelane.machine.backoff import ExponentialBackoff
from corelane.machine.child import Child
from corelane.machine.health import HealthChecker, exit_status
from corelane.machine.ledger import MetricsLedger
from corelane.machine.worker_socket import make_socket_directory

# How late a death or a stop may be noticed. `run` looks instead of waiting because a signal handler that sets an event
# can deadlock with its own thread's wait for that event.
_TICK_S = 0.05

WorkerState: TypeAlias = Literal["waiting", "running", "finished", "given_up"]
EventSink: TypeAlias = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True)
class WorkerSpec:
    """A worker to keep: `argv` is run without a shell, on `cpus` only if given.

    A worker that ends in order by itself is finished, unless it should run `until_stopped` (a server's): then that is a
    loss like any other. Raises `ConfigError` for an empty argv and for a name that a file cannot have.
    """

    name: str
    argv: tuple[str, ...]
    cpus: frozenset[int] | None = None
    until_stopped: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", self.name):
            raise ConfigError(f"a worker's name must be 1 to 64 letters, digits, - or _, got {self.name!r}; rename it")
        if not self.argv:
            raise ConfigError(f"the argv of worker {self.name!r} must name a program, got (); add it")


@dataclass(frozen=True)
class WorkerStatus:
    """One worker at a moment. `restarts` counts from the beginning; `reason` says how it last ended, in words."""

    name: str
    state: WorkerState = "waiting"
    pid: int | None = None
    restarts: int = 0
    reason: str = ""


@dataclass
class _Worker:
    """A worker as the run loop knows it. Other threads see only `status`, which is replaced whole."""

    spec: WorkerSpec
    status: WorkerStatus
    child: Child | None = None
    start_at_s: float = 0.0
    restarted_s: deque[float] = field(default_factory=deque)  # when, within the window
    returncode: int = 0  # of its last end; 0 before


class Supervisor:
    """Keeps one process per spec. `run` blocks; `metrics` and `workers` may be asked from other threads meanwhile.

    A worker may be restarted `max_restarts` times within any `window_s` seconds, after `backoff.delay_s` each (the
    backoff's `max_retries` plays no part). `on_event` is called in the thread of `run` with a name (`worker_started`,
    `worker_exited`, `worker_restarting`, `worker_finished`, `worker_given_up`, `worker_killed`) and fields.
    `own_metrics` renders the supervisor's own process for `metrics` to merge in. Raises `ConfigError` when there is no
    spec, or two have one name.
    """

    def __init__(
        self,
        specs: Sequence[WorkerSpec],
        *,
        socket_directory: Path,
        max_restarts: int = 5,
        window_s: float = 60.0,
        backoff: ExponentialBackoff | None = None,
        grace_s: float = 30.0,
        clock: Clock | None = None,
        on_event: EventSink = lambda _name, _fields: None,
        health: HealthChecker | None = None,
        own_metrics: Callable[[], bytes] | None = None,
    ) -> None:
        names = [spec.name for spec in specs]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"workers must be at least one, each with a name of its own, got {names}; correct them")
        self._workers = [_Worker(spec, WorkerStatus(spec.name)) for spec in specs]
        self._socket_directory = socket_directory
        self._max_restarts = max_restarts
        self._window_s = window_s
        self._backoff = backoff or ExponentialBackoff()
        self._grace_s = grace_s
        self._clock = clock or SystemClock()
        self._on_event = on_event
        self._health = health or HealthChecker()
        self._ledger = MetricsLedger(socket_directory, own_metrics)

    def run(self, stop: threading.Event) -> int:
        """Start the workers and keep them until `stop` is set or none is left; returns the exit code to pass on.

        Asked to stop, each worker gets SIGTERM, and SIGKILL with all it started if it still runs `grace_s` seconds
        later. The code is 0, or that of the first worker whose last end was another: 75 passes through, death by signal
        n is 128 + n (but our SIGTERM is a good end for a worker that runs until stopped). Call it from a thread that
        lives as long as the process: Linux ends the children with that thread.
        """
        make_socket_directory(self._socket_directory)
        try:
            while not stop.is_set() and any(worker.status.state in {"waiting", "running"} for worker in self._workers):
                for worker in self._workers:
                    self._advance(worker)
                self._clock.sleep(_TICK_S)
            self._stop()
        finally:
            for _, child in self._running():
                child.kill()
        return next((exit_status(worker.returncode) for worker in self._workers if worker.returncode), 0)

    def metrics(self) -> bytes:
        """The workers' metrics as one Prometheus text; counters outlive the processes that counted.

        Raises `DataError` naming the worker whose text is no exposition.
        """
        return self._ledger.render()

    @property
    def workers(self) -> tuple[WorkerStatus, ...]:
        """The workers as they are now, in the order of their specs."""
        return tuple(worker.status for worker in self._workers)

    # --- one worker's life -------------------------------------------------------------------------------------------

    def _advance(self, worker: _Worker) -> None:
        if worker.child is None:
            if worker.status.state == "waiting" and self._clock.monotonic() >= worker.start_at_s:
                self._start(worker)
        elif (returncode := worker.child.poll()) is not None:
            self._ended(worker, worker.child, returncode)
            self._decide(worker)

    def _start(self, worker: _Worker) -> None:
        worker.child = Child(worker.spec.argv, worker.spec.cpus)
        self._ledger.begin(worker.spec.name, worker.child.pid)
        worker.status = replace(worker.status, state="running", pid=worker.child.pid)
        self._tell("worker_started", worker, pid=worker.child.pid)

    def _ended(self, worker: _Worker, child: Child, returncode: int) -> None:
        self._ledger.retire(worker.spec.name, child.pid)
        worker.child = None
        worker.returncode = returncode
        worker.status = replace(worker.status, state="finished", pid=None, reason=self._health.explain_exit(returncode))
        self._tell("worker_exited", worker, pid=child.pid, returncode=returncode, reason=worker.status.reason)

    def _decide(self, worker: _Worker) -> None:
        """What becomes of a worker that ended although we did not ask it to."""
        orderly = self._health.is_orderly_exit(worker.returncode)
        if orderly and not worker.spec.until_stopped:
            self._tell("worker_finished", worker, reason=worker.status.reason)
        elif not orderly and not self._health.is_recoverable_exit(worker.returncode):
            self._give_up(worker, "started again it would end the same way")
        elif not self._take_ration(worker):
            self._give_up(worker, f"that is more than {self._max_restarts} restarts within {self._window_s:g} s")
        else:
            wait_s = self._backoff.delay_s(len(worker.restarted_s) - 1)
            worker.start_at_s = self._clock.monotonic() + wait_s
            worker.status = replace(worker.status, state="waiting", restarts=worker.status.restarts + 1)
            self._tell("worker_restarting", worker, restarts=worker.status.restarts, wait_s=wait_s)

    def _take_ration(self, worker: _Worker) -> bool:
        now_s = self._clock.monotonic()
        while worker.restarted_s and worker.restarted_s[0] <= now_s - self._window_s:
            worker.restarted_s.popleft()
        if len(worker.restarted_s) >= self._max_restarts:
            return False
        worker.restarted_s.append(now_s)
        return True

    def _give_up(self, worker: _Worker, why: str) -> None:
        worker.status = replace(worker.status, state="given_up", reason=f"{worker.status.reason}; {why}")
        self._tell("worker_given_up", worker, reason=worker.status.reason)

    # --- the end of all ----------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        for worker in self._workers:
            if worker.status.state == "waiting":
                worker.status = replace(worker.status, state="finished")
        for _, child in self._running():
            child.terminate()
        deadline_s = self._clock.monotonic() + self._grace_s
        while self._running():
            for worker, child in self._running():
                if (returncode := child.poll()) is not None:
                    good = worker.spec.until_stopped and returncode == -SIGTERM
                    self._ended(worker, child, 0 if good else returncode)
            if self._clock.monotonic() >= deadline_s:
                for worker, child in self._running():
                    child.kill()
                    self._tell("worker_killed", worker, pid=child.pid, grace_s=self._grace_s)
                    self._ended(worker, child, -SIGKILL)
            else:
                self._clock.sleep(_TICK_S)

    def _running(self) -> list[tuple[_Worker, Child]]:
        return [(worker, worker.child) for worker in self._workers if worker.child is not None]

    def _tell(self, event: str, worker: _Worker, **fields: Any) -> None:
        self._on_event(event, {"worker": worker.spec.name, **fields})
