"""A server that is asked for more than it can do: what it accepts is in time, the rest is told at once.

Rows D1, D2, D3 and D20 of the list in `docs/faults.md`. The canary sleeps 10 ms a row, one row a run: 100 rows a
second. The load is open: it does not wait for answers.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serve.live import LiveServer, serving, tensor
from tests.serve.packages import numeric_package

pytestmark = pytest.mark.alone

INFER = "/v2/models/m/infer"
BODY = {"inputs": [tensor("features", [0, 2, 3, 4], [1, 4])]}
CAPACITY = 100.0  # rows a second
DEADLINE_S = 0.5
SLEEPING = Path(__file__).parent / "sleeping"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network whose rows take 10 ms each, one at a time, and no processor."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SLEEPING), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("SLEEPING_ROW_S", str(1 / CAPACITY))
    return numeric_package(tmp_path)


def load(server: LiveServer, rate: float, seconds: float, *, timeout_s: float | None = DEADLINE_S) -> Any:
    """What `corelane load` says of so many requests a second."""
    argv = [sys.executable, "-m", "corelane", "load", server.url, "--model", "m", "--rate", str(rate)]
    argv += ["--duration", str(seconds), "--json"]
    argv += [] if timeout_s is None else ["--timeout", str(timeout_s)]
    return json.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True, timeout=seconds + 60).stdout)


def rows_run(server: LiveServer) -> int:
    text = server.ask("GET", "/metrics").body.decode()
    found = re.search(r'corelane_inference_batch_rows_sum\{model="m"\} (\d+)', text)
    return int(found.group(1)) if found else 0


def resident_mb(server: LiveServer) -> float:
    [worker] = server.workers()
    status = Path(f"/proc/{worker}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


@contextmanager
def asking_for_health(server: LiveServer) -> Iterator[list[float]]:
    """How long health and metrics take meanwhile, in seconds."""
    took_s: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.05):
            for path in ("/v2/health/live", "/v2/health/ready", "/metrics"):
                begin_s = time.monotonic()
                assert server.ask("GET", path).status == 200
                took_s.append(time.monotonic() - begin_s)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield took_s
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("seconds", [5.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_goodput_holds_at_ten_times_the_capacity(package: Path, seconds: float) -> None:
    """The rest is refused within 50 ms, nothing is run for nobody, memory stays, and it is well again soon."""
    with serving(package, batch_size=1) as server:
        load(server, CAPACITY / 2, 2.0)
        before, before_mb = rows_run(server), resident_mb(server)
        seen = {}
        for factor in (1, 2, 5, 10):
            with asking_for_health(server) as took_s:
                seen[factor] = load(server, factor * CAPACITY, seconds)
        peak = max(one["answered_per_s"] for one in seen.values())
        for factor, one in seen.items():
            told = f"{factor}x: {one}"
            assert set(one["statuses"]) <= {"200", "429", "504"}, told
            assert one["latency_ms"]["p99"] <= 1000 * DEADLINE_S + 50, told
            if factor > 1:
                assert one["answered_per_s"] >= 0.9 * peak, told
                assert one["refusal_ms"]["p99"] <= 50, told
        answered = sum(one["statuses"]["200"] for one in seen.values())
        assert rows_run(server) - before <= 1.01 * answered + 5
        assert float(np.percentile(took_s, 99)) <= 0.1
        assert resident_mb(server) - before_mb < 30
        time.sleep(1.0)
        well = load(server, CAPACITY / 2, 2.0)
        assert well["statuses"] == {"200": well["requests"]}


def test_who_leaves_while_waiting_is_not_worked_for(package: Path) -> None:
    """The server notices within a tenth of a second or two; what runs already ends, unseen."""
    with serving(package, batch_size=1) as server:
        assert server.ask("POST", INFER, BODY).status == 200
        before = rows_run(server)
        body = json.dumps(BODY).encode()
        connections = [server.connect() for _ in range(100)]
        for connection in connections:
            connection.request("POST", INFER, body=body, headers={"Content-Type": "application/json"})
        time.sleep(0.2)
        for connection in connections:
            connection.close()
        time.sleep(1.5)
        assert rows_run(server) - before < 60
        assert server.ask("POST", INFER, BODY).status == 200


def test_a_short_deadline_overtakes_a_long_queue(package: Path) -> None:
    """Half a second of patient work waits: who must be answered in a tenth is, and nobody loses by it."""
    with serving(package, batch_size=1) as server:
        assert server.ask("POST", INFER, BODY).status == 200
        body = json.dumps(BODY).encode()
        waiting = [server.connect() for _ in range(50)]
        for connection in waiting:
            connection.request("POST", INFER, body=body, headers={"Content-Type": "application/json"})
        assert server.ask("POST", INFER, BODY, {"Corelane-Timeout-Ms": "100"}).status == 200
        statuses = []
        for connection in waiting:
            reply = connection.getresponse()
            reply.read()
            statuses.append(reply.status)
            connection.close()
        assert statuses == [200] * 50


def test_a_promise_of_latency_is_a_deadline(package: Path) -> None:
    """With `serve.slo`, who brings no deadline has that one: answered within it, or told."""
    with serving(package, batch_size=1, slo="p99=100ms") as server:
        assert server.ask("POST", INFER, BODY).status == 200
        argv = [
            sys.executable,
            "-m",
            "corelane",
            "load",
            server.url,
            "--model",
            "m",
            "--rate",
            "200",
            "--duration",
            "3",
        ]
        done = subprocess.run([*argv, "--json"], stdout=subprocess.PIPE, check=True, timeout=60)
        seen = json.loads(done.stdout)
        assert set(seen["statuses"]) <= {"200", "429", "504"}
        assert seen["latency_ms"]["p99"] <= 130
        assert seen["answered_per_s"] >= 60
        slowest = server.ask("GET", "/v2/models/m/slowest").json["slowest"]
        assert slowest[0]["total_us"] >= slowest[-1]["total_us"] > 0
