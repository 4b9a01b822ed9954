"""One engine's server as the load sees it: where to send, what to send, how to read the answer; and its process."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from benchmarks.measure import ROOT, BenchmarkError

READY_WITHIN_S = 60.0  # a cold start of the slowest peer's imports, on a busy machine
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`command(port)` starts the server; `label` reads the predicted class out of the body of an answer."""

    path: str
    body: bytes
    label: Callable[[bytes], int]
    command: Callable[[int], Sequence[str]]
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


def plain_body(row: Sequence[float]) -> bytes:
    """The request of peers that speak no protocol of their own: `{"x": [[...]]}`."""
    return json.dumps({"x": [list(row)]}).encode()


def plain_label(reply: bytes) -> int:
    """The class with the largest logit in `{"y": [[...]]}`."""
    logits = json.loads(reply)["y"][0]
    return max(range(len(logits)), key=logits.__getitem__)


def tensor_body(row: Sequence[float]) -> bytes:
    """The request of peers that speak the Open Inference Protocol."""
    tensor = {"name": "features", "datatype": "FP32", "shape": [1, len(row)], "data": list(row)}
    return json.dumps({"inputs": [tensor]}).encode()


def tensor_label(reply: bytes) -> int:
    """The class with the largest logit in their answer's one output."""
    (output,) = json.loads(reply)["outputs"]
    logits = output["data"][0] if isinstance(output["data"][0], list) else output["data"]
    return max(range(len(logits)), key=logits.__getitem__)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(endpoint: Endpoint, expected_label: int) -> Iterator[str]:
    """The server's URL, once it answers `body` with the expected class; the process has ended afterwards."""
    port = free_port()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            endpoint.command(port), cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            label = _first_answer(endpoint, port, process)
            if label is None:
                output.seek(0)
                raise BenchmarkError(
                    f"{endpoint.command(port)} must answer within 60 s; it wrote:\n{output.read()[-2000:]}"
                )
            if label != expected_label:
                raise BenchmarkError(f"{endpoint.command(port)} must answer class {expected_label}, got {label}")
            yield f"http://{HOST}:{port}{endpoint.path}"
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            with suppress(ProcessLookupError):  # some peers leave workers behind, which the next measurement would feel
                os.killpg(process.pid, signal.SIGKILL)


def _first_answer(endpoint: Endpoint, port: int, process: subprocess.Popen[bytes]) -> int | None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection(HOST, port, timeout=10)
        try:
            connection.request("POST", endpoint.path, endpoint.body, dict(endpoint.headers))
            response = connection.getresponse()
            reply = response.read()
            if response.status == 200:
                return endpoint.label(reply)
        except (OSError, http.client.HTTPException):
            pass  # not listening yet
        finally:
            connection.close()
        time.sleep(0.1)
    return None
