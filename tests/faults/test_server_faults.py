"""Models and machines that fail under a server: hangs, crashes, memory, files, descriptors, stopped clocks.

Rows D6, D7, D9, D13 and D14 of the list in `docs/faults.md`.
"""

from __future__ import annotations

import http.client
import os
import re
import resource
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import canary
from tests.faults.memory_group import can_limit_memory, memory_group
from tests.serve.live import LiveServer, Reply, serving, tensor
from tests.serve.packages import numeric_package

INFER = "/v2/models/m/infer"


def body(first: float) -> dict[str, object]:
    """One row whose first number says how much the canary is to do."""
    return {"inputs": [tensor("features", [first, 2, 3, 4], [1, 4])]}


def until(condition: Callable[[], bool], *, within_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.05)


def answers(server: LiveServer, path: str = INFER) -> bool:
    try:
        return server.ask("POST", path, body(0)).status == 200
    except (OSError, http.client.HTTPException):
        return False


def given_up(server: LiveServer) -> list[str]:
    """Why workers are not started any more."""
    workers = server.manage("GET", "/workers").json["workers"]
    return [one["reason"] for one in workers if one["state"] == "given_up"]


def lost(server: LiveServer, first: float) -> Reply | None:
    """The answer to a request that should end its worker; None where the connection was reset."""
    try:
        return server.ask("POST", INFER, body(first))
    except (OSError, http.client.HTTPException):
        return None


def test_a_model_that_hangs_costs_its_worker_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It hangs the event loop, since its runs are short else; the stacks are told, and another worker comes up."""
    with serving(canary.looping(tmp_path), workers=2, hang_timeout_s=2) as server:
        before = server.workers()
        assert lost(server, 1e15) is None
        until(lambda: len(server.workers()) == 2 and server.workers() != before)
        assert len(set(before) & set(server.workers())) == 1
        until(lambda: answers(server))
        assert server.stop() == 0
    assert "Timeout (0:00:02)!" in capfd.readouterr().err


def test_a_long_run_that_hangs_is_ended_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In the executor, while the event loop goes on answering; what waited behind it is lost with it."""
    with serving(canary.looping(tmp_path, least=5000), hang_timeout_s=2) as server:
        worker = server.workers()
        replies: list[Reply | None] = []
        asking = threading.Thread(target=lambda: replies.append(lost(server, 1e15)))
        asking.start()
        time.sleep(0.5)
        assert server.ask("GET", "/v2/health/live").status == 200
        until(lambda: server.workers() != worker and len(server.workers()) == 1)
        asking.join(30)
        assert replies == [None]
        until(lambda: answers(server))
        assert server.stop() == 0
    told = capfd.readouterr().err
    assert "run_hung" in told
    assert "Thread 0x" in told


def test_a_crash_in_native_code_is_survived_and_given_up_at_last(tmp_path: Path) -> None:
    """The other worker answers meanwhile; one that crashes again and again is not started for ever, nor waited for."""
    with serving(canary.looping(tmp_path), workers=2, model_control="explicit") as server:
        victim, survivor = server.workers()
        os.kill(victim, signal.SIGSEGV)
        until(lambda: victim not in server.workers())
        until(lambda: answers(server))
        until(lambda: len(server.workers()) == 2)
        kills = 1
        while not (reasons := given_up(server)):
            assert kills < 8  # more than the ration of a minute
            for pid in set(server.workers()) - {survivor}:
                os.kill(pid, signal.SIGSEGV)
                kills += 1
                until(lambda gone=pid: gone not in server.workers())  # type: ignore[misc]
            assert answers(server)
        assert (len(reasons), server.workers()) == (1, [survivor])
        assert "more than 5 restarts" in reasons[0]
        assert server.manage("GET", "/v2/health/ready").status == 200
        asked_s = time.monotonic()
        assert server.manage("POST", "/v2/repository/models/m/unload").status == 200
        assert time.monotonic() - asked_s < 5  # it is not waited for
        server.stop()


@pytest.mark.skipif(not can_limit_memory(), reason="needs root and the memory controller")
def test_a_model_that_swells_is_killed_alone(tmp_path: Path) -> None:
    """By the kernel, at the limit of the control group; the server starts another worker and says why."""
    with memory_group(900 << 20) as group, serving(canary.swelling(tmp_path)) as server:
        worker = server.workers()
        for pid in (server.process.pid, *worker):
            (group.path / "cgroup.procs").write_text(str(pid))
        assert answers(server)
        reply = lost(server, 3000.0)
        assert reply is None or reply.status == 503, reply
        until(lambda: answers(server))
        assert server.process.poll() is None
        assert server.stop() == 0


def test_files_that_go_or_change_do_not_touch_what_is_served(tmp_path: Path) -> None:
    """A package is read once: what runs is in memory."""
    package = numeric_package(tmp_path)
    with serving(package) as server:
        expected = server.ask("POST", INFER, body(1)).json["outputs"]
        for path in package.rglob("*"):
            if path.is_file():
                path.write_bytes(b"")
        assert server.ask("POST", INFER, body(1)).json["outputs"] == expected
        shutil.rmtree(package)
        for _ in range(20):
            assert server.ask("POST", INFER, body(1)).json["outputs"] == expected
        assert server.stop() == 0


def test_connections_beyond_the_most_wait_and_cost_nothing(tmp_path: Path) -> None:
    """They are accepted when others end; the worker neither ends nor spins."""
    with serving(numeric_package(tmp_path), max_connections=8) as server:
        [worker] = server.workers()
        assert answers(server)
        idle = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(40)]
        began_s = _cpu_s(worker)
        time.sleep(2.0)
        assert _cpu_s(worker) - began_s < 1.0
        for connection in idle:
            connection.close()
        until(lambda: answers(server))
        assert server.workers() == [worker]
        assert server.stop() == 0


def test_a_worker_without_descriptors_goes_on(tmp_path: Path) -> None:
    """What it cannot accept waits, and it recovers."""
    with serving(numeric_package(tmp_path)) as server:
        [worker] = server.workers()
        assert answers(server)
        num_open = len(list(Path(f"/proc/{worker}/fd").iterdir()))
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (num_open + 5, num_open + 5))
        idle = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(40)]
        time.sleep(1.0)
        for connection in idle:
            connection.close()
        until(lambda: answers(server))
        assert server.workers() == [worker]
        assert server.stop() == 0


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_worker_that_was_stopped_drops_what_has_expired(tmp_path: Path) -> None:
    """Requests that waited when it was stopped, and whose deadline has passed, are answered 504 and never run."""
    with serving(canary.looping(tmp_path, least=50_000), batch_size=1) as server:
        [worker] = server.workers()
        assert answers(server)
        num_run = _rows_run(server)
        replies: list[int] = []
        deadline = {"Corelane-Timeout-Ms": "1500"}
        asking = [
            threading.Thread(target=lambda: replies.append(server.ask("POST", INFER, body(0), deadline).status))
            for _ in range(30)
        ]
        for one in asking:
            one.start()
        time.sleep(0.3)
        os.kill(worker, signal.SIGSTOP)
        time.sleep(3.0)
        os.kill(worker, signal.SIGCONT)
        for one in asking:
            one.join(30)
        assert set(replies) <= {200, 429, 504}  # 429: for whom too much waited already
        assert 504 in replies
        assert _rows_run(server) - num_run <= replies.count(200) + 1  # one may have run when the worker was stopped
        until(lambda: answers(server))
        assert server.stop() == 0


def _rows_run(server: LiveServer) -> int:
    text = server.ask("GET", "/metrics").body.decode()
    found = re.search(r'corelane_inference_batch_rows_sum\{model="m"\} (\d+)', text)
    return int(found.group(1)) if found else 0
