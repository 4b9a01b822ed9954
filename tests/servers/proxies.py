"""nginx and HAProxy as they are deployed: real processes that run the files of `deploy/`, on free ports of loopback.

Only the addresses are other ones. Used by tests of what reaches a server through them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.ports import free_port, wait_until_listening

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


@contextmanager
def proxied(kind: str, server_port: int, folder: Path) -> Iterator[int]:
    """The port of `kind` (nginx or haproxy) in front of the server on `server_port`, by the configuration in `deploy/`.

    `direct` is the server's own port: what holds for a proxy can be asked of none as well.
    """
    if kind == "direct":
        yield server_port
        return
    port = free_port()
    command = _nginx(port, server_port, folder) if kind == "nginx" else _haproxy(port, server_port, folder)
    with (folder / f"{kind}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        wait_until_listening(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=30)


def _nginx(port: int, server_port: int, folder: Path) -> list[str]:
    text = (DEPLOY / "nginx" / "corelane.conf").read_text()
    text = _put(text, "listen 8080;", f"listen 127.0.0.1:{port};")
    text = _put(text, "server 127.0.0.1:8000 ", f"server 127.0.0.1:{server_port} ")
    (folder / "corelane.conf").write_text(text)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = folder / "nginx.conf"
    main.write_text(
        f"daemon off; user root; worker_processes 1; pid {folder}/nginx.pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {temporary} include {folder}/corelane.conf; }}\n"
    )
    return ["/usr/sbin/nginx", "-p", str(folder), "-c", str(main)]


def _haproxy(port: int, server_port: int, folder: Path) -> list[str]:
    text = (DEPLOY / "haproxy" / "haproxy.cfg").read_text()
    text = _put(text, "bind :8080", f"bind 127.0.0.1:{port}")
    text = _put(text, "server server1 127.0.0.1:8000", f"server server1 127.0.0.1:{server_port}")
    path = folder / "haproxy.cfg"
    path.write_text(text)
    return ["/usr/sbin/haproxy", "-db", "-f", str(path)]


def _put(text: str, old: str, new: str) -> str:
    """`text` with its one `old` replaced; the file in `deploy/` must still say it."""
    assert text.count(old) == 1, f"the configuration must say {old!r} once"
    return text.replace(old, new)
