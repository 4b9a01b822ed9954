"""The supervisor keeps real processes running, gives up with a reason, and stops what it started."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from corelane.core.errors import ConfigError
from corelane.machine.backoff import ExponentialBackoff
from corelane.machine.supervise import Supervisor, WorkerSpec

EVENT_TIMEOUT_S = 20.0  # generous: the machine may be busy, and a test that waits that long has failed
AT_ONCE = ExponentialBackoff(initial_s=0.0, maximum_s=0.0, jitter_s=0.0)

DIE_TWICE = (
    "import os, sys; path = sys.argv[1]; open(path, 'a').write('x')\n"
    "if os.path.getsize(path) <= 2: os.kill(os.getpid(), int(sys.argv[2]))"
)
READY_AND_WAIT = (
    "import signal, sys; pipe = open(sys.argv[1], 'w'); print('ready', file=pipe, flush=True); signal.pause()"
)
STOP_WITH_75 = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n" + READY_AND_WAIT
DEAF = "import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork()\n" + READY_AND_WAIT


def worker(name: str, code: str, *arguments: object, until_stopped: bool = False) -> WorkerSpec:
    argv = (sys.executable, "-I", "-S", "-c", code, *map(str, arguments))
    return WorkerSpec(name, argv, until_stopped=until_stopped)


class Events:
    """Collects what a supervisor tells; `wait` blocks for the next event of a name."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Mapping[str, Any]]] = []
        self._queue: queue.Queue[tuple[str, Mapping[str, Any]]] = queue.Queue()

    def __call__(self, name: str, fields: Mapping[str, Any]) -> None:
        self.seen.append((name, fields))
        self._queue.put((name, fields))

    def names(self, of: str) -> list[str]:
        return [name for name, fields in self.seen if fields["worker"] == of]

    def wait(self, name: str) -> Mapping[str, Any]:
        while True:
            found, fields = self._queue.get(timeout=EVENT_TIMEOUT_S)
            if found == name:
                return fields


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A pipe with a name. Reading it to the end returns only when every process that wrote to it is gone."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def supervise(directory: Path, events: Events, *specs: WorkerSpec, **options: Any) -> Supervisor:
    options = {"backoff": AT_ONCE, "grace_s": 10.0, **options}
    return Supervisor(specs, socket_directory=directory / "sockets", on_event=events, **options)


class Running:
    """A supervisor in a thread: `finish()` sets the stop event and returns the exit code."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._stop = threading.Event()
        self._code: list[int] = []
        self._thread = threading.Thread(target=lambda: self._code.append(supervisor.run(self._stop)))
        self._thread.start()

    def finish(self) -> int:
        self._stop.set()
        self._thread.join(timeout=EVENT_TIMEOUT_S)
        return self._code[0]


@contextmanager
def running(supervisor: Supervisor) -> Iterator[Running]:
    run = Running(supervisor)
    try:
        yield run
    finally:
        run.finish()


def test_a_worker_that_is_done_is_not_started_again(tmp_path: Path, events: Events) -> None:
    """Success ends it, and the run with it: code 0."""
    supervisor = supervise(tmp_path, events, worker("a", "pass"))
    assert supervisor.run(threading.Event()) == 0
    assert events.names("a") == ["worker_started", "worker_exited", "worker_finished"]
    assert (supervisor.workers[0].state, supervisor.workers[0].pid) == ("finished", None)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_is_made_good(tmp_path: Path, events: Events, number: int) -> None:
    """Killed twice by a signal, the worker runs a third time and finishes: code 0, two restarts, the signal named."""
    supervisor = supervise(tmp_path, events, worker("a", DIE_TWICE, tmp_path / "count", int(number)))
    assert supervisor.run(threading.Event()) == 0
    assert (tmp_path / "count").read_text() == "xxx"
    assert supervisor.workers[0].restarts == 2
    exits = [fields for name, fields in events.seen if name == "worker_exited"]
    assert [fields["returncode"] for fields in exits] == [-number, -number, 0]
    assert signal.Signals(number).name in exits[0]["reason"]


def test_the_ration_ends_a_crash_loop_with_a_reason(tmp_path: Path, events: Events) -> None:
    """With two restarts allowed it is started three times, then given up; the exit code tells the signal."""
    spec = worker("a", "import os; os.kill(os.getpid(), 9)")
    supervisor = supervise(tmp_path, events, spec, max_restarts=2, window_s=60.0)
    assert supervisor.run(threading.Event()) == 128 + signal.SIGKILL
    assert events.names("a").count("worker_started") == 3
    status = supervisor.workers[0]
    assert (status.state, status.restarts) == ("given_up", 2)
    assert "out of memory" in status.reason
    assert "more than 2 restarts within 60 s" in status.reason


def test_only_restarts_within_the_window_count(tmp_path: Path, events: Events) -> None:
    """With a window of no length every crash is the first: two crashes pass a ration of one."""
    spec = worker("a", DIE_TWICE, tmp_path / "count", 9)
    assert supervise(tmp_path, events, spec, max_restarts=1, window_s=0.0).run(threading.Event()) == 0


def test_waits_between_restarts_grow(tmp_path: Path, events: Events) -> None:
    """The backoff's waits are used in order, and told."""
    backoff = ExponentialBackoff(initial_s=0.01, maximum_s=0.02, jitter_s=0.0)
    spec = worker("a", "raise SystemExit(1)")
    assert supervise(tmp_path, events, spec, max_restarts=3, backoff=backoff).run(threading.Event()) == 1
    assert [fields["wait_s"] for name, fields in events.seen if name == "worker_restarting"] == [0.01, 0.02, 0.02]


@pytest.mark.parametrize(("code", "word"), [(2, "input or options"), (127, "not found")])
def test_what_would_end_the_same_way_is_given_up_at_once(tmp_path: Path, events: Events, code: int, word: str) -> None:
    """A user's error and a missing program are not restarted, even for a worker that should run until stopped."""
    spec = worker("a", f"raise SystemExit({code})", until_stopped=True)
    supervisor = supervise(tmp_path, events, spec)
    assert supervisor.run(threading.Event()) == code
    assert events.names("a") == ["worker_started", "worker_exited", "worker_given_up"]
    assert word in supervisor.workers[0].reason


def test_resumable_is_no_error_and_is_passed_on(tmp_path: Path, events: Events) -> None:
    """A trainer that saved and stopped says 75: no restart, and we say 75."""
    assert supervise(tmp_path, events, worker("a", "raise SystemExit(75)")).run(threading.Event()) == 75
    assert events.names("a")[-1] == "worker_finished"


def test_a_worker_given_up_leaves_the_others_running(tmp_path: Path, events: Events, fifo: Path) -> None:
    """One crashes for good, the other works on until it is stopped."""
    bad, good = worker("bad", "raise SystemExit(2)"), worker("good", READY_AND_WAIT, fifo, until_stopped=True)
    supervisor = supervise(tmp_path, events, bad, good)
    with running(supervisor) as run, fifo.open() as pipe:
        assert pipe.readline() == "ready\n"
        assert events.wait("worker_given_up")["worker"] == "bad"
        assert [status.state for status in supervisor.workers] == ["given_up", "running"]
        assert run.finish() == 2
    assert [status.state for status in supervisor.workers] == ["given_up", "finished"]


def test_a_server_that_ends_by_itself_is_replaced(tmp_path: Path, events: Events) -> None:
    """A worker that should run until stopped is started again after a success and after a foreign SIGTERM."""
    spec = worker("a", DIE_TWICE, tmp_path / "count", 15, until_stopped=True)
    supervisor = supervise(tmp_path, events, spec, max_restarts=3)
    assert supervisor.run(threading.Event()) == 0
    assert (tmp_path / "count").read_text() == "xxxx"
    assert supervisor.workers[0].state == "given_up"


def test_a_stop_is_passed_on_and_waited_for(tmp_path: Path, events: Events, fifo: Path) -> None:
    """SIGTERM lets the worker save and say 75, and 75 is what we say; nobody is killed."""
    with running(supervise(tmp_path, events, worker("a", STOP_WITH_75, fifo))) as run, fifo.open() as pipe:
        assert pipe.readline() == "ready\n"
        assert run.finish() == 75
    assert "worker_killed" not in events.names("a")


@pytest.mark.parametrize(("until_stopped", "code"), [(True, 0), (False, 128 + signal.SIGTERM)])
def test_death_by_our_sigterm(tmp_path: Path, events: Events, fifo: Path, until_stopped: bool, code: int) -> None:
    """For a server a good end; for a worker with something to finish it is not success."""
    spec = worker("a", READY_AND_WAIT, fifo, until_stopped=until_stopped)
    with running(supervise(tmp_path, events, spec)) as run, fifo.open() as pipe:
        assert pipe.readline() == "ready\n"
        assert run.finish() == code


def test_who_does_not_stop_is_killed_with_all_it_started(tmp_path: Path, events: Events, fifo: Path) -> None:
    """After the grace time SIGKILL ends the worker and its own child, and the exit code says so."""
    with running(supervise(tmp_path, events, worker("a", DEAF, fifo), grace_s=0.2)) as run, fifo.open() as pipe:
        assert pipe.readline() == "ready\n"
        assert pipe.readline() == "ready\n"
        assert run.finish() == 128 + signal.SIGKILL
        assert pipe.read() == ""
    assert "worker_killed" in events.names("a")


def test_a_stop_while_a_restart_is_awaited_returns_at_once(tmp_path: Path, events: Events) -> None:
    """The long wait is cut short, and a run that never got done is no success."""
    backoff = ExponentialBackoff(initial_s=3600.0, maximum_s=3600.0)
    supervisor = supervise(tmp_path, events, worker("a", "raise SystemExit(1)"), backoff=backoff)
    with running(supervisor) as run:
        events.wait("worker_restarting")
        assert run.finish() == 1
    assert events.names("a").count("worker_started") == 1


def test_a_stop_before_the_start_starts_nothing(tmp_path: Path, events: Events) -> None:
    """The event is looked at first."""
    stop = threading.Event()
    stop.set()
    assert supervise(tmp_path, events, worker("a", "pass")).run(stop) == 0
    assert events.seen == []


def test_an_error_of_ours_leaves_no_process_behind(tmp_path: Path, fifo: Path) -> None:
    """When the observer raises, the error comes out of `run` and the worker is gone."""

    def observer(name: str, fields: Mapping[str, Any]) -> None:
        with fifo.open() as pipe:
            assert pipe.readline() == "ready\n"
        raise OSError("the log's disk is full")

    supervisor = Supervisor(
        [worker("a", READY_AND_WAIT, fifo)], socket_directory=tmp_path / "sockets", on_event=observer
    )
    with pytest.raises(OSError, match="the log's disk is full"):
        supervisor.run(threading.Event())


SUPERVISOR = """
import sys, threading
from pathlib import Path
from corelane.machine.supervise import Supervisor, WorkerSpec
Supervisor([WorkerSpec("a", tuple(sys.argv[2:]))], socket_directory=Path(sys.argv[1])).run(threading.Event())
"""


def test_workers_die_with_a_killed_supervisor(tmp_path: Path, fifo: Path) -> None:
    """SIGKILL leaves the supervisor no chance to clean up; its worker ends all the same."""
    argv = [sys.executable, "-c", SUPERVISOR, str(tmp_path / "sockets"), *worker("a", READY_AND_WAIT, fifo).argv]
    with subprocess.Popen(argv) as supervisor, fifo.open() as pipe:
        assert pipe.readline() == "ready\n"
        supervisor.kill()
        assert pipe.read() == ""


COUNTING = """
import signal, sys
from pathlib import Path
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from corelane.machine.worker_socket import serve_metrics
registry = CollectorRegistry()
Counter("work", "Work.", registry=registry).inc(5)
Gauge("depth", "Depth.", registry=registry).set(3)
with serve_metrics(Path(sys.argv[1]), lambda: generate_latest(registry)), open(sys.argv[2], "w") as pipe:
    print("ready", file=pipe, flush=True)
    signal.pause()
"""


def value_of(text: bytes, sample: str) -> float | None:
    values = [float(line.split()[-1]) for line in text.decode().splitlines() if line.startswith(sample)]
    return values[0] if values else None


def test_counters_survive_crashes_and_hangs(tmp_path: Path, events: Events, fifo: Path) -> None:
    """A worker counts 5 and is killed: 5 stays; its successor counts 5: 10; the successor hangs: still 10."""
    argv = (sys.executable, "-c", COUNTING, str(tmp_path / "sockets" / "a.sock"), str(fifo))
    supervisor = supervise(tmp_path, events, WorkerSpec("a", argv, until_stopped=True))
    with running(supervisor):
        with fifo.open() as pipe:
            assert pipe.readline() == "ready\n"
            assert value_of(supervisor.metrics(), "work_total") == 5
            assert value_of(supervisor.metrics(), 'depth{worker="a"}') == 3
            os.kill(events.wait("worker_started")["pid"], signal.SIGKILL)
            events.wait("worker_exited")
            assert value_of(supervisor.metrics(), "work_total") == 5
            assert value_of(supervisor.metrics(), "depth") is None
        with fifo.open() as pipe:
            assert pipe.readline() == "ready\n"
            assert value_of(supervisor.metrics(), "work_total") == 10
            successor = supervisor.workers[0].pid
            assert successor is not None
            os.kill(successor, signal.SIGSTOP)
            assert value_of(supervisor.metrics(), "work_total") == 10
            os.kill(successor, signal.SIGCONT)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "x" * 65])
def test_names_that_no_file_can_have_are_refused(name: str) -> None:
    """A worker's name becomes its socket's."""
    with pytest.raises(ConfigError, match="worker's name must be"):
        WorkerSpec(name, ("true",))


def test_no_workers_two_of_a_name_or_no_program_are_refused(tmp_path: Path, events: Events) -> None:
    """A supervisor that exists has something to keep."""
    with pytest.raises(ConfigError, match="must be at least one"):
        supervise(tmp_path, events)
    with pytest.raises(ConfigError, match="a name of its own"):
        supervise(tmp_path, events, worker("a", "pass"), worker("a", "pass"))
    with pytest.raises(ConfigError, match="must name a program"):
        WorkerSpec("a", ())
