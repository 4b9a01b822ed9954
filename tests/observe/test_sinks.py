"""Sinks lose lines before they lose the caller: real full disks, torn lines, closed pipes."""

from __future__ import annotations

import io
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from corelane.core.errors import ConfigError
from corelane.observe.sinks import FileSink, TerminalSink


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """Let the kernel cut every write of this process at `num_bytes` of file size, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def sink_at(path: Path, errors: list[OSError]) -> FileSink:
    return FileSink(path, lambda num_lost: f"LOST {num_lost}", errors.append)


def test_lines_are_appended_in_order(tmp_path: Path) -> None:
    """A second sink on the same file (a resumed run) goes on where the first ended; folders are made."""
    path = tmp_path / "logs" / "data.jsonl"
    errors: list[OSError] = []
    for line in ("one", "two"):
        sink = sink_at(path, errors)
        sink.write(line)
        sink.close()
        sink.close()
        sink.write("after closing")
    assert path.read_text() == "one\ntwo\n"
    assert errors == []


def test_a_full_disk_loses_lines_and_says_how_many(tmp_path: Path) -> None:
    """A line cut short is closed off and counted; the first line that fits again comes after the number lost."""
    path = tmp_path / "data.jsonl"
    errors: list[OSError] = []
    sink = sink_at(path, errors)
    sink.write("before")
    with largest_file(10):
        sink.write("torn by the limit")
        sink.write("does not fit at all")
    sink.write("after")
    sink.close()
    assert path.read_text().splitlines() == ["before", "tor", "LOST 2", "after"]
    assert len(errors) == 2


def test_a_device_without_space_never_raises(tmp_path: Path) -> None:
    """Every write to a full device (the kernel's own) is counted, none raises."""
    errors: list[OSError] = []
    (tmp_path / "data.jsonl").symlink_to("/dev/full")
    sink = sink_at(tmp_path / "data.jsonl", errors)
    for _ in range(3):
        sink.write("line")
    sink.close()
    assert [error.strerror for error in errors] == [os.strerror(28)] * 3


def test_a_path_that_can_never_work_is_refused_at_once(tmp_path: Path) -> None:
    """A file where the directory should be is the user's mistake and not a full disk."""
    (tmp_path / "logs").write_text("")
    with pytest.raises(ConfigError, match="the log file must be writable"):
        sink_at(tmp_path / "logs" / "data.jsonl", [])


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    """Lines written at the same time by several threads, through two sinks on one file, are all there and whole."""
    sinks = [sink_at(tmp_path / "data.jsonl", []) for _ in range(2)]
    threads = [
        threading.Thread(target=lambda n=number: [sinks[n % 2].write(f"{n}-{i}-" + "x" * 500) for i in range(100)])
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for sink in sinks:
        sink.close()
    lines = (tmp_path / "data.jsonl").read_text().splitlines()
    assert sorted(lines) == sorted(f"{n}-{i}-" + "x" * 500 for n in range(4) for i in range(100))


def test_a_terminal_that_is_gone_is_counted() -> None:
    """A pipe whose reader has left, a closed stream and a character the encoding lacks cost a line each, no more."""
    reading, writing = os.pipe()
    os.close(reading)
    errors: list[OSError] = []
    pipe = open(writing, "w", buffering=1)  # noqa: PTH123, SIM115 (a descriptor; closed below, which flushes and fails)
    TerminalSink(pipe, errors.append).write("line")
    with pytest.raises(BrokenPipeError):
        pipe.close()
    TerminalSink(pipe, errors.append).write("line")
    TerminalSink(io.TextIOWrapper(io.BytesIO(), encoding="ascii"), errors.append).write("größe")
    assert len(errors) == 3
    assert isinstance(errors[0], BrokenPipeError)


def test_standard_error_is_looked_up_at_each_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A progress bar that replaces `sys.stderr` for a while gets the lines meanwhile."""
    sink = TerminalSink(None, lambda error: None)
    sink.write("hello")
    assert capsys.readouterr().err == "hello\n"
    assert not sink.is_terminal
