"""Metrics sockets give whole texts or nothing, to their owner only, and nobody can hold anybody up."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from corelane.core.errors import ConfigError, WorkerLostError
from corelane.machine.worker_socket import (
    MAX_EXPOSITION_BYTES,
    gather,
    make_socket_directory,
    read_metrics,
    serve_metrics,
    socket_path,
)


@contextmanager
def peer(path: Path, answer: bytes | None) -> Iterator[None]:
    """A broken worker: sends `answer` to the one who connects, or with None never takes the connection."""

    def send() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(answer or b"")

    make_socket_directory(path.parent)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)
        thread = threading.Thread(target=send)
        if answer is not None:
            thread.start()
        yield
        if answer is not None:
            thread.join()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.mark.parametrize("size", [0, 1, 5_000_000], ids=["empty", "one byte", "5 MB"])
def test_a_text_arrives_whole(directory: Path, size: int) -> None:
    """Whatever its size, and again for every reader."""
    text = b"x" * size
    with serve_metrics(socket_path(directory, "a"), lambda: text):
        assert read_metrics(socket_path(directory, "a")) == text
        assert read_metrics(socket_path(directory, "a")) == text


def test_each_reading_is_rendered_anew(directory: Path) -> None:
    """`render` is called when somebody asks, and not before."""
    count = iter(range(10))
    with serve_metrics(socket_path(directory, "a"), lambda: b"%d" % next(count)):
        assert [read_metrics(socket_path(directory, "a")) for _ in range(3)] == [b"0", b"1", b"2"]


def test_many_are_read_at_once(directory: Path) -> None:
    """`gather` returns each answer under its name and leaves out who is not there."""
    paths = {name: socket_path(directory, name) for name in ("a", "b", "missing")}
    with serve_metrics(paths["a"], lambda: b"A"), serve_metrics(paths["b"], lambda: b"B"):
        assert gather(paths) == {"a": b"A", "b": b"B"}


def test_the_socket_goes_with_its_context(directory: Path) -> None:
    """Afterwards there is no file, no thread and no answer, only an error that may pass."""
    path = socket_path(directory, "a")
    with serve_metrics(path, lambda: b""):
        pass
    assert not path.exists()
    assert "worker-metrics" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(WorkerLostError, match=r"a\.sock must answer within 0\.5 s"):
        read_metrics(path, timeout_s=0.5)


def test_a_socket_left_by_a_dead_process_is_replaced(directory: Path) -> None:
    """A worker that was killed leaves its file; its successor serves under the same name."""
    path = socket_path(directory, "a")
    make_socket_directory(directory)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    with serve_metrics(path, lambda: b"alive"):
        assert read_metrics(path) == b"alive"


def test_only_the_owner_may_enter(directory: Path, tmp_path: Path) -> None:
    """The directory is made with mode 0700, and one that others may enter is refused."""
    with serve_metrics(socket_path(directory, "a"), lambda: b""):
        assert directory.stat().st_mode & 0o777 == 0o700
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o755)
    with (
        pytest.raises(ConfigError, match=r"mode 0700, got .*0755"),
        serve_metrics(socket_path(open_to_all, "a"), lambda: b""),
    ):
        pytest.fail("served from a directory that anybody may enter")


def test_a_deep_directory_is_no_obstacle(tmp_path: Path) -> None:
    """A socket address holds 107 bytes; a longer path works all the same."""
    deep = tmp_path.joinpath(*["a-rather-long-name-of-a-directory"] * 5)
    assert len(str(deep)) > 107
    with serve_metrics(socket_path(deep, "a"), lambda: b"deep"):
        assert read_metrics(socket_path(deep, "a")) == b"deep"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0\0\0",
        (10).to_bytes(8, "big") + b"only 9 ch",
        (2).to_bytes(8, "big") + b"longer",
        (MAX_EXPOSITION_BYTES + 1).to_bytes(8, "big"),
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=["nothing", "torn length", "torn text", "too much", "too long", "not ours"],
)
def test_a_torn_text_is_left_out(directory: Path, answer: bytes) -> None:
    """A worker that dies while it sends is a worker that did not answer."""
    path = socket_path(directory, "a")
    with peer(path, answer):
        assert gather({"a": path}) == {}


def test_a_worker_that_hangs_does_not_hold_up_the_others(directory: Path) -> None:
    """Within the time allowed the others' texts are there; the one that accepts nothing is left out."""
    hanging, healthy = socket_path(directory, "hanging"), socket_path(directory, "healthy")
    with peer(hanging, None), serve_metrics(healthy, lambda: b"fine"):
        start_s = time.monotonic()
        assert gather({"hanging": hanging, "healthy": healthy}, timeout_s=0.3) == {"healthy": b"fine"}
        assert time.monotonic() - start_s < 3.0


def test_a_reader_that_leaves_does_not_end_the_service(directory: Path) -> None:
    """Connections closed without reading cost nothing: the next reader is served."""
    path = socket_path(directory, "a")
    with serve_metrics(path, lambda: b"y" * 1_000_000):
        for _ in range(3):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as reader:
                reader.connect(str(path))
        assert len(read_metrics(path)) == 1_000_000


def test_a_shortage_of_files_passes(directory: Path) -> None:
    """A process that for a moment may open no more files answers again afterwards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    path = socket_path(directory, "a")
    with serve_metrics(path, lambda: b"x\n"), socket.socket(socket.AF_UNIX) as first:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            first.connect(str(path))
            time.sleep(0.3)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert read_metrics(path) == b"x\n"
