"""Starting a server: what is refused before a child is started, and how a worker is called."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from corelane.core.errors import BundleError, ConfigError, PortInUseError
from corelane.machine.cpu import Machine
from corelane.machine.supervise import Supervisor, WorkerSpec
from corelane.observe.config import ObserveConfig
from corelane.observe.log import SystemLogger
from corelane.serve.config import ServeConfig
from corelane.serve.run import _announcing, _log_to, run_worker, serve, worker_argv
from corelane.serve.worker import READY_SOCKET
from corelane.web.listen import reserve
from tests.serve.packages import numeric_package


def start(*packages: Path, port: int = 0) -> int:
    observe = ObserveConfig(log_level="error")
    with SystemLogger(observe) as logger:
        return serve(
            packages,
            ServeConfig(port=port),
            observe=observe,
            logger=logger,
            machine=Machine.detect(),
            memory_bytes=1 << 30,
            announce=lambda listening: pytest.fail(f"listening at {listening.url}"),
        )


def test_serving_nothing_is_refused() -> None:
    """A server needs a package."""
    with pytest.raises(ConfigError, match="at least one package"):
        start()


def test_two_packages_of_one_name_are_refused(tmp_path: Path) -> None:
    """Two versions of one model cannot be served side by side: their paths would be the same."""
    first, second = numeric_package(tmp_path), numeric_package(tmp_path)
    assert (first.name, second.name) == ("1", "2")
    with pytest.raises(ConfigError, match="served packages must have different names, got 'm'"):
        start(first, second)


def test_a_broken_package_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """One flipped byte in a package is an error that names the file, and no worker is started."""
    path = numeric_package(tmp_path)
    graph = path / "graphs" / "fp32.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.chmod(0o600)
    graph.write_bytes(content)
    with pytest.raises(BundleError, match=r"fp32\.onnx"):
        start(path)


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    """The port of another server is refused although the kernel would let both share it."""
    package = numeric_package(tmp_path)
    with reserve("127.0.0.1", 0) as address, pytest.raises(PortInUseError):
        start(package, port=address.port)


def test_a_worker_is_this_interpreter_with_a_file() -> None:
    """The hidden command runs under the same Python and gets everything in one file."""
    argv = worker_argv(Path("/somewhere/worker-0.json"))
    assert argv == (sys.executable, "-m", "corelane", "serve-worker", "--spec", "/somewhere/worker-0.json")


@pytest.mark.parametrize("arguments", [[], ["--spec"], ["--other", "x"], ["--spec", "x", "y"]])
def test_odd_worker_arguments_are_refused(arguments: list[str]) -> None:
    """The hidden command says who calls it when somebody else does."""
    with pytest.raises(ConfigError, match="--spec FILE"):
        run_worker(arguments)


def test_a_worker_that_cannot_begin_says_why_in_one_line(tmp_path: Path) -> None:
    """With the exit code by which the supervisor knows that it would end the same way again."""
    for arguments, told in (([], "--spec FILE"), (["--spec", str(tmp_path / "no")], "No such file")):
        argv = [sys.executable, "-m", "corelane", "serve-worker", *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, told in done.stderr) == (2 if not arguments else 1, True), done.stderr
    assert "typer" not in done.stderr


def test_restarted_workers_report_without_end(tmp_path: Path) -> None:
    """That is announced once, and a worker that is started again after that is not held up in reporting."""
    times: list[int] = []
    heard = threading.Event()

    def announce() -> None:
        times.append(1)
        heard.set()

    with (
        _announcing(tmp_path, {"worker-0"}, announce),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as worker,
    ):
        worker.settimeout(10.0)
        for _ in range(2000):  # the kernel keeps 10 to 512 unread ones before a sender has to wait
            worker.sendto(b"worker-0", str(tmp_path / READY_SOCKET))
        assert heard.wait(10.0)
    assert times == [1]


def test_a_restart_is_counted(tmp_path: Path) -> None:
    """A worker that is killed and started again is one restart in the supervisor's metrics."""
    with SystemLogger(ObserveConfig(log_level="error")) as logger:
        stop = threading.Event()

        def tell(event: str, fields: Mapping[str, Any]) -> None:
            _log_to(logger, tmp_path)(event, fields)
            if event == "worker_started" and not started:
                started.append(fields["pid"])
                os.kill(fields["pid"], signal.SIGKILL)
            elif event == "worker_started":
                stop.set()

        started: list[int] = []
        spec = WorkerSpec("worker-0", ("sleep", "60"), until_stopped=True)
        with tempfile.TemporaryDirectory() as folder:
            Supervisor([spec], socket_directory=Path(folder), on_event=tell, grace_s=5.0).run(stop)
        assert b'corelane_system_worker_restarts_total{worker="worker-0"} 1.0' in logger.metrics_collector.render()


def test_a_long_temporary_folder_is_no_obstacle(tmp_path: Path) -> None:
    """A socket's address holds 107 bytes; a folder's name may be longer."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    with _announcing(folder, {"worker-0"}, lambda: None):
        assert (folder / READY_SOCKET).is_socket()
