"""What a server of the small MLP costs before it is asked anything: seconds until it is ready, and its memory.

Ready is the time from starting the command to the line that says where it listens. Memory is the proportional set size
(PSS) of a worker: pages that several processes share count once among them. Linux tells it in `smaps_rollup`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import BAR, ROOT, BenchmarkError, Quantity, Row, say
from benchmarks.serving.endpoint import free_port

SECONDS = Quantity("s to ready", is_higher_better=False)
MEGABYTES = Quantity("MB PSS a worker", is_higher_better=False)
READY_S, WORKER_MB = 1.5, 150.0
CASES = ("ready", "worker-memory")


def measure(package: Path, cases: list[str], num_rounds: int) -> list[Row]:
    """One row for each of `cases`, medians of the rounds."""
    seen = [_started(package) for _ in range(num_rounds)]
    say("  " + "  ".join(f"{ready_s:.2f} s, {worker_mb:.0f} MB" for ready_s, worker_mb in seen))
    ready_s, worker_mb = (statistics.median(values) for values in zip(*seen, strict=True))
    rows = [
        Row("ready", BAR, ready_s, READY_S, SECONDS.unit, SECONDS.ratio(ready_s, READY_S), 1.0),
        Row("worker-memory", BAR, worker_mb, WORKER_MB, MEGABYTES.unit, MEGABYTES.ratio(worker_mb, WORKER_MB), 1.0),
    ]
    return [row for row in rows if row.case in cases]


def _started(package: Path) -> tuple[float, float]:
    """Seconds until it is ready, and megabytes of its one worker."""
    command = [sys.executable, "-m", "corelane", "serve", str(package), "--port", str(free_port()), "--json"]
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            ready_s = time.perf_counter() - start
            if "url" not in json.loads(line or "{}"):
                raise BenchmarkError(f"corelane serve must say where it listens, got {line!r}")
            (worker,) = _workers(server.pid)
            return ready_s, _pss_bytes(worker) / 1e6
        finally:
            server.terminate()


def _workers(supervisor: int) -> list[int]:
    """The processes that serve, among the children of the supervisor."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return [int(pid) for pid in children if b"serve-worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _pss_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
