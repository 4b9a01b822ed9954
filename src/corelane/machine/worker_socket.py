"""Metrics between processes of one service: a process offers its exposition on a unix socket, another reads it.

Whoever connects is sent the text's length (8 bytes, big-endian) and the text, so a text torn by a crash is recognised;
nothing is ever read from a peer. Sockets lie in a directory that only their owner may enter. A worker serves with
`serve_metrics`; the supervisor reads all with `gather`, and may serve the merged text in the same way to whichever
worker is asked for `/metrics`, which gets it with `read_metrics`.
"""

from __future__ import annotations

import os
import selectors
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from corelane.core.errors import ConfigError, WorkerLostError

MAX_EXPOSITION_BYTES = 1 << 24  # a few hundred KiB is a large exposition; more than this is a broken peer
_LENGTH_BYTES = 8
_CHUNK_BYTES = 1 << 16
_BACKLOG = 16
_SEND_TIMEOUT_S = 1.0  # a reader that stops reading must not hold up the next one for longer
_ACCEPT_PAUSE_S = 0.1  # where the process has no file left to open: long enough to cost nothing, short enough to wait


def socket_path(directory: Path, name: str) -> Path:
    """Where the worker called `name` serves its metrics."""
    return directory / f"{name}.sock"


def make_socket_directory(directory: Path) -> None:
    """Make `directory` with mode 0700. Raises `ConfigError` if it exists and anybody else may enter it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.stat()
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.geteuid() or mode & 0o077:
        raise ConfigError(
            f"the socket directory must belong to this user with mode 0700, got {str(directory)!r} of user "
            f"{found.st_uid} with mode {mode:04o}; choose another or correct it"
        )


@contextmanager
def serve_metrics(path: Path, render: Callable[[], bytes]) -> Iterator[None]:
    """Answer every connection to the unix socket `path` with `render()`, from a daemon thread, until the context ends.

    `render` runs in that thread. A socket that a dead process left behind is replaced. Raises `ConfigError` as
    `make_socket_directory` does.
    """
    make_socket_directory(path.parent)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        with short_address(path) as address:
            listener.bind(address)
        listener.listen(_BACKLOG)
        is_over = threading.Event()
        arguments = (listener, render, is_over)
        thread = threading.Thread(target=_answer_all, args=arguments, name="worker-metrics", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept(); closing alone would not
            thread.join()
            path.unlink(missing_ok=True)


def read_metrics(path: Path, *, timeout_s: float = 1.0) -> bytes:
    """The exposition served at `path`. Raises `WorkerLostError` when none arrives whole within `timeout_s` seconds."""
    texts = gather({path.name: path}, timeout_s=timeout_s)
    if path.name not in texts:
        raise WorkerLostError(
            f"the process behind the socket {path.name} must answer within {timeout_s:g} s, got no answer; try again, "
            "it may be restarting"
        )
    return texts[path.name]


def gather(paths: Mapping[str, Path], *, timeout_s: float = 1.0) -> dict[str, bytes]:
    """The expositions served at `paths`, by name, read side by side within `timeout_s` seconds altogether.

    A process that is not there, does not finish in time or sends something torn or too large is left out.
    """
    deadline = time.monotonic() + timeout_s  # bounds a wait in the kernel, so it is real time and no `Clock`
    received: dict[str, bytearray] = {}
    with ExitStack() as connections, selectors.DefaultSelector() as selector:
        for name, path in paths.items():
            connection = connections.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            if _connect(connection, path):
                selector.register(connection, selectors.EVENT_READ, name)
                received[name] = bytearray()
        while selector.get_map() and (left_s := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left_s):
                if not _receive(key.fd, received[key.data]):
                    selector.unregister(key.fileobj)
    return {name: bytes(text[_LENGTH_BYTES:]) for name, text in received.items() if _is_whole(text)}


def _answer_all(listener: socket.socket, render: Callable[[], bytes], is_over: threading.Event) -> None:
    while not is_over.is_set():
        try:
            connection, _ = listener.accept()
        except OSError:  # shut down; or the process has as many files open as it may, which passes
            is_over.wait(_ACCEPT_PAUSE_S)
            continue
        with connection:
            connection.settimeout(_SEND_TIMEOUT_S)
            text = render()
            with suppress(OSError):  # the reader gave up; the next one is unaffected
                connection.sendall(len(text).to_bytes(_LENGTH_BYTES, "big") + text)


def _connect(connection: socket.socket, path: Path) -> bool:
    connection.setblocking(False)  # a worker that hangs with a full backlog must not hold us
    try:
        with short_address(path) as address:
            connection.connect(address)
    except OSError:  # not started yet, just died, or hanging
        return False
    return True


def _receive(descriptor: int, into: bytearray) -> bool:
    """Take what has arrived; False at the end of the stream, when it broke, or when it grows beyond reason."""
    try:
        chunk = os.read(descriptor, _CHUNK_BYTES)
    except OSError:
        return False
    into += chunk
    return bool(chunk) and len(into) <= MAX_EXPOSITION_BYTES + _LENGTH_BYTES


def _is_whole(received: bytearray) -> bool:
    length = len(received) - _LENGTH_BYTES
    return 0 <= length <= MAX_EXPOSITION_BYTES and length == int.from_bytes(received[:_LENGTH_BYTES], "big")


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """A short name for `path`: a socket address holds 107 bytes, which a run directory can exceed."""
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
