"""The life of a server: sharing a port, losing a worker, stopping under load, and what a worker never loads."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from corelane.machine.cpu import Machine
from tests.serve.live import LiveServer, ask, serving, tensor
from tests.serve.packages import numeric_package

BODY = {"inputs": [tensor("features", [1, 2, 3, 4], [1, 4])]}
INFER = "/v2/models/m/infer"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numeric_package(tmp_path_factory.mktemp("packages"))


def requests_counted(server: LiveServer) -> int:
    text = server.ask("GET", "/metrics").body.decode()
    found = re.search(r'corelane_inference_requests_total{model="m",protocol="http",status="200"} (\d+)', text)
    return int(found.group(1)) if found else 0


def until(condition: object, *, within_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.02)


def test_workers_share_the_port_and_their_metrics(package: Path) -> None:
    """Two workers answer on one port, each on its own CPUs where there are two, and any tells the metrics of both."""
    with serving(package, workers=2) as server:
        workers = server.workers()
        assert len(workers) == 2
        for _ in range(40):
            assert server.ask("POST", INFER, BODY).status == 200
        assert requests_counted(server) == 40
        text = server.ask("GET", "/metrics").body.decode()
        assert 'corelane_system_up{worker="worker-0"} 1.0' in text
        assert 'corelane_system_up{worker="worker-1"} 1.0' in text
        pinned = [frozenset(os.sched_getaffinity(worker)) for worker in workers]
        assert pinned[0].isdisjoint(pinned[1]) or len(os.sched_getaffinity(0)) < 2
        assert server.stop() == 0


def test_there_are_as_many_workers_as_cpus(package: Path) -> None:
    """`auto` asks the machine."""
    with serving(package, workers="auto") as server:
        assert len(server.workers()) == Machine.detect().thread_budget
        assert server.ask("POST", INFER, BODY).status == 200


def test_a_killed_worker_comes_back_and_nothing_counted_is_lost(package: Path) -> None:
    """A worker killed with SIGKILL is started again, the other serves meanwhile, and counters never go back."""
    with serving(package, workers=2) as server:
        for _ in range(20):
            assert server.ask("POST", INFER, BODY).status == 200
        assert requests_counted(server) == 20
        victim, survivor = server.workers()
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(server.workers()) == 2 and victim not in server.workers())
        assert survivor in server.workers()
        until(lambda: server.ask("POST", INFER, BODY).status == 200)
        assert requests_counted(server) >= 20
        assert server.stop() == 0


def test_stopping_under_load_fails_no_request(package: Path) -> None:
    """Clients that send when SIGTERM comes get whole answers until the server closes their connection; it exits 0."""
    with serving(package) as server:
        odd: list[object] = []
        started = threading.Barrier(5)

        def client() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
            started.wait(20)
            try:
                while True:
                    reply = ask(connection, "POST", INFER, BODY)
                    if reply.status != 200 or b"outputs" not in reply.body:
                        odd.append(reply)
                    if reply.headers.get("connection") == "close":
                        return
            except (http.client.RemoteDisconnected, ConnectionError):
                return  # closed between two requests, as HTTP allows
            except (http.client.HTTPException, OSError) as error:
                odd.append(error)
            finally:
                connection.close()

        clients = [threading.Thread(target=client) for _ in range(4)]
        for one in clients:
            one.start()
        started.wait(20)
        until(lambda: requests_counted(server) > 50)
        assert server.stop() == 0
        for one in clients:
            one.join(20)
        assert odd == []
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_a_stopping_server_says_so_first(package: Path) -> None:
    """Readiness turns 503 at once on SIGTERM while requests are still served for the announced time."""
    with serving(package, announce_s=1.0) as server:
        server.process.terminate()
        until(lambda: server.ask("GET", "/v2/health/ready").status == 503, within_s=1.0)
        assert server.ask("GET", "/v2/health/live").status == 200
        assert server.ask("POST", INFER, BODY).status == 200
        assert server.process.wait(timeout=20) == 0


def test_a_port_in_use_is_the_users_mistake(package: Path) -> None:
    """A second server on the same port ends at once with exit code 2 and one line; the first is undisturbed."""
    with serving(package) as server:
        argv = [sys.executable, "-m", "corelane", "serve", str(package), "--port", str(server.port)]
        second = subprocess.run(argv, capture_output=True, timeout=30, check=False)
        assert second.returncode == 2
        assert b"port must be free" in second.stderr
        assert b"Traceback" not in second.stderr
        for _ in range(20):
            assert server.ask("POST", INFER, BODY).status == 200


def test_a_served_package_never_loads_torch(package: Path) -> None:
    """Neither the worker nor its supervisor has any library of torch mapped, even after inference and metrics."""
    with serving(package) as server:
        assert server.ask("POST", INFER, BODY).status == 200
        assert server.ask("GET", "/metrics").status == 200
        for pid in (server.process.pid, *server.workers()):
            maps = Path(f"/proc/{pid}/maps").read_text()
            assert "torch" not in maps


def test_the_workers_die_with_their_supervisor(package: Path) -> None:
    """A supervisor killed with SIGKILL leaves no worker behind to hold the port."""
    with serving(package) as server:
        [worker] = server.workers()
        server.process.kill()
        server.process.wait(timeout=20)
        until(lambda: not Path(f"/proc/{worker}/exe").exists())
        assert server.process.returncode == -signal.SIGKILL


def test_a_full_queue_sheds_at_once_and_recovers(package: Path) -> None:
    """More requests at once than may wait are each answered 200 or 429 with a time to come back; then all is well."""
    with serving(package, queue_size=2, batch_delay_s=0.2, batch_size=64) as server:
        connections = [server.connect() for _ in range(40)]
        for connection in connections:
            connection.connect()
        replies = []
        body = b'{"inputs": [{"name": "features", "shape": [1, 4], "datatype": "FP64", "data": [1, 2, 3, 4]}]}'
        for connection in connections:
            connection.request("POST", INFER, body=body, headers={"Content-Type": "application/json"})
        for connection in connections:
            answer = connection.getresponse()
            answer.read()
            replies.append((answer.status, answer.getheader("Retry-After")))
            connection.close()
        assert {status for status, _ in replies} == {200, 429}
        assert all(1 <= int(wait or 0) <= 60 for status, wait in replies if status == 429)
        assert server.ask("POST", INFER, BODY).status == 200
