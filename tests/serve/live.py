"""A real server in a child process, and a small HTTP client that hides nothing."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.web.wire import CONTRACT

START_S = 60.0
NO_SETTINGS: Mapping[str, Any] = {}
STOP_S = 30.0


@dataclass(frozen=True)
class Reply:
    """Status, headers (lower case) and body of one answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __post_init__(self) -> None:
        assert self.status in CONTRACT, f"a reply must have a status of the contract, got {self.status}"

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class LiveServer:
    """A running server: its URL and the supervising process."""

    url: str
    process: subprocess.Popen[bytes]
    grpc_port: int | None = None
    management_url: str | None = None

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
        """One request on a connection of its own; `body` is sent as JSON unless it is bytes."""
        connection = self.connect()
        try:
            return ask(connection, method, path, body, headers)
        finally:
            connection.close()

    def manage(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout_s: float = 20
    ) -> Reply:
        """One request to the port of management, or to the main one where the workers answer its calls."""
        port = urlsplit(self.management_url or self.url).port or 0
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        try:
            return ask(connection, method, path, body, headers)
        finally:
            connection.close()

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return sorted(int(pid) for task in tasks for pid in task.read_text().split())

    def kill_worker(self, pid: int) -> None:
        """End a worker as the kernel does when memory is short."""
        os.kill(pid, signal.SIGKILL)

    def answers(self, path: str, body: Any) -> bool:
        """Whether a request is answered with 200 now; one whose connection is reset is not."""
        try:
            return self.ask("POST", path, body).status == 200
        except (http.client.HTTPException, OSError):
            return False

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.terminate()
        return self.process.wait(timeout=STOP_S)


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """One request on `connection`."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    typed = {"Content-Type": "application/json"} if data is not None else {}
    connection.request(method, path, body=data, headers={**typed, **(headers or {})})
    answer = connection.getresponse()
    return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


@contextmanager
def serving(*packages: Path, root: Mapping[str, Any] = NO_SETTINGS, **settings: Any) -> Iterator[LiveServer]:
    """`corelane serve` with `packages` on a free port of loopback; `settings` are those of the section `serve`, `root`
    others by their whole names.

    Unless they say otherwise no plan is looked for: the server's children are its workers.
    """
    argv = [sys.executable, "-m", "corelane", "serve", *map(str, packages), "--port", "0", "--json"]
    wanted = {**root, **{f"serve.{name}": value for name, value in {"plan": "safe", **settings}.items()}}
    for name, value in wanted.items():
        argv += ["--set", f"{name}={value}"]
    argv += ["--set", "observe.log_level=error"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"the server ended with {process.wait()}"
        told = json.loads(line)
        is_managed = "management_port" in settings or settings.get("model_control") == "explicit"
        more = "grpc_port" in settings, is_managed and settings.get("management_port") != "main"
        for _ in filter(None, more):
            told |= json.loads(process.stdout.readline())
        yield LiveServer(told["url"], process, told.get("grpc_port"), told.get("management_url"))
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def tensor(name: str, data: Any, shape: list[int], datatype: str = "FP64") -> dict[str, Any]:
    """One input of the Open Inference Protocol."""
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}
