"""Load from wrk: one thread, so many connections, the same POST again and again; figures as numbers, not as text."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from benchmarks.measure import BenchmarkError

# wrk calls `done` with latencies in microseconds; an error is a time-out, a broken socket or a status of 400 and above.
SCRIPT = """
wrk.method = "POST"
{headers}
wrk.body = io.open("{body}", "rb"):read("*a")
done = function(summary, latency)
  local e = summary.errors
  io.stderr:write(string.format('{{"requests": %d, "duration_us": %d, "p50_us": %f, "errors": %d}}',
    summary.requests, summary.duration, latency:percentile(50), e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw."""

    requests_per_s: float
    p50_ms: float
    num_errors: int


JSON = {"Content-Type": "application/json"}


def run(
    url: str, body: bytes, *, num_connections: int, duration_s: int, headers: Mapping[str, str] = MappingProxyType(JSON)
) -> Load:
    """Send `body` to `url` over `num_connections` kept-alive connections for `duration_s`."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise BenchmarkError("wrk must be installed; apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "post.lua")
        content = Path(folder, "body")
        content.write_bytes(body)
        lines = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items())
        script.write_text(SCRIPT.format(headers=lines, body=content))
        command = [wrk, "-t1", f"-c{num_connections}", f"-d{duration_s}s", "--timeout", "10s", "-s", str(script), url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=duration_s + 60, check=False)
    if done.returncode != 0 or not done.stderr.strip():
        raise BenchmarkError(f"wrk ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
    seen = json.loads(done.stderr.strip().splitlines()[-1])
    return Load(seen["requests"] / (seen["duration_us"] / 1e6), seen["p50_us"] / 1e3, int(seen["errors"]))
