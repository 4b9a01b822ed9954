"""One holder at a time: who is dead is succeeded at once, who is silent after the lease, and fenced when it wakes."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from corelane.core.clock import SystemClock
from corelane.core.errors import RunLockedError
from corelane.store.lease import Lease, has_booted_anew, is_gone, is_local, newest_generation, read_holder, this_process

ROOT = Path(__file__).parents[2]


def lease(folder: Path, told: list[tuple[str, Any]] | None = None, lease_s: float = 60.0) -> Lease:
    heard = told if told is not None else []
    return Lease(folder, clock=SystemClock(), tell=lambda event, fields: heard.append((event, fields)), lease_s=lease_s)


HOLDER = """
import sys, time
from pathlib import Path
from corelane.core.clock import SystemClock
from corelane.core.errors import RunLockedError
from corelane.store.lease import Lease
held = Lease(Path(sys.argv[1]), clock=SystemClock(), tell=lambda *_: None, lease_s=float(sys.argv[2]))
held.acquire()
print("held", flush=True)
sys.stdin.readline()
try:
    held.check()
    print("published", flush=True)
except RunLockedError as error:
    print(f"refused: {error}", flush=True)
"""


@contextmanager
def holder(folder: Path, lease_s: float) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lease, and publishes when it gets a line."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), str(lease_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield child
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_second_is_told_who_holds_it(tmp_path: Path) -> None:
    """A7: the second leaves at once with pid, host and since; it has written nothing; the first goes on."""
    with holder(tmp_path, 60.0) as first:
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(RunLockedError, match=rf"locked by pid {first.pid} on {os.uname().nodename} since 20\d\d-"):
            lease(tmp_path).acquire()
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_free_one_is_taken_without_a_word(tmp_path: Path) -> None:
    """Given up, it is free; generations grow all the same."""
    told: list[tuple[str, Any]] = []
    for generation in (1, 2, 3):
        held = lease(tmp_path, told)
        held.acquire()
        assert held.generation == generation
        held.check()
        held.release()
        held.release()
    assert told == []
    with pytest.raises(RunLockedError):
        held.check()


def test_a_dead_holder_is_succeeded_at_once(tmp_path: Path) -> None:
    """A7: SIGKILL leaves a lock behind, which is taken over and told."""
    with holder(tmp_path, 60.0) as first:
        first.kill()
        first.wait()
        told: list[tuple[str, Any]] = []
        held = lease(tmp_path, told)
        held.acquire()
    assert [event for event, _ in told] == ["lock_taken_over"]
    assert told[0][1]["reason"] == "its holder is dead"
    assert f"pid {first.pid}" in told[0][1]["from"]
    held.check()
    held.release()


def test_a_machine_that_booted_anew_holds_nothing(tmp_path: Path) -> None:
    """A7: a lock of this machine's last boot is stale, however young its file."""
    first = lease(tmp_path)
    first.acquire()
    path = tmp_path / "1.json"
    content = json.loads(path.read_bytes())
    first.release()
    path.write_text(json.dumps({**content, "boot": "an earlier one"}))
    told: list[tuple[str, Any]] = []
    held = lease(tmp_path, told)
    held.acquire()
    assert told[0][1]["reason"] == "its machine has booted anew"
    held.release()


def test_another_machine_is_believed_for_its_lease(tmp_path: Path) -> None:
    """A7: of another host only silence is known: young it holds, and after the lease it does not."""
    path = tmp_path / "4.json"
    path.write_text(json.dumps({"pid": 7, "host": "far", "machine": "far", "boot": "x", "since_s": 1.0}))
    with pytest.raises(RunLockedError, match="pid 7 on far since 1970-01-01"):
        lease(tmp_path).acquire()
    os.utime(path, (time.time() - 61, time.time() - 61))
    told: list[tuple[str, Any]] = []
    held = lease(tmp_path, told)
    held.acquire()
    assert held.generation == 5
    assert "silent for 6" in told[0][1]["reason"]
    held.release()


def test_who_was_stopped_for_longer_is_fenced(tmp_path: Path) -> None:
    """A7: SIGSTOP for longer than the lease, another takes over, SIGCONT: the first refuses to publish."""
    with holder(tmp_path, 0.3) as first:
        first.send_signal(signal.SIGSTOP)
        path = tmp_path / "1.json"
        until(lambda: time.time() - path.stat().st_mtime > 0.4)
        second = lease(tmp_path, lease_s=0.3)
        second.acquire()
        assert first.stdin is not None
        assert first.stdout is not None
        first.send_signal(signal.SIGCONT)
        first.stdin.write("publish\n")
        first.stdin.flush()
        answer = first.stdout.readline()
        assert answer.startswith("refused:")
        assert f"pid {os.getpid()}" in answer
        second.check()
        second.release()


def test_a_live_holder_is_heard(tmp_path: Path) -> None:
    """A holder that works for longer than its lease keeps it: its thread touches the file."""
    held = lease(tmp_path, lease_s=0.3)
    held.acquire()
    first = (tmp_path / "1.json").stat().st_mtime
    until(lambda: (tmp_path / "1.json").stat().st_mtime > first + 0.3)
    held.check()
    held.release()


def test_a_lock_file_that_is_no_json_counts_by_its_age(tmp_path: Path) -> None:
    """Garbage, or a file that is just being written, holds for the lease and no longer; other files are not ours."""
    (tmp_path / "9.json").write_bytes(b"\xff" * 10_000)
    (tmp_path / "latest.json").write_text("{}")
    assert newest_generation(tmp_path) == 9
    assert read_holder(tmp_path, 9) is None
    with pytest.raises(RunLockedError, match="has not said its name"):
        lease(tmp_path).acquire()
    os.utime(tmp_path / "9.json", (1.0, 1.0))
    held = lease(tmp_path)
    held.acquire()
    assert held.generation == 10
    held.release()


def _left_by(folder: Path, **other: object) -> Path:
    """A young lock of a process like us but for what is `other`, which nobody holds in the kernel."""
    path = folder / "1.json"
    path.write_text(json.dumps({**this_process(SystemClock()), **other}))
    return path


def test_a_clone_on_a_shared_disk_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A7: machines of one image share name and number: another boot is no earlier one where both see the disk."""
    _left_by(tmp_path, boot="another")
    assert is_local(tmp_path)
    assert not is_local(Path("/proc"))
    monkeypatch.setattr("corelane.store.lease.is_local", lambda _: False)
    with pytest.raises(RunLockedError):
        lease(tmp_path).acquire()


@pytest.mark.parametrize("boot", ["", "another"])
def test_an_unknown_boot_proves_nothing(boot: str) -> None:
    """A7: where one of the two cannot say its boot, its silence decides."""
    here = this_process(SystemClock())
    assert has_booted_anew({**here, "boot": boot}, here) == bool(boot)
    assert not has_booted_anew({**here, "boot": "another"}, {**here, "boot": ""})
    assert not is_gone({**here, "boot": "", "pid": 1 << 30}, {**here, "boot": ""})


def test_without_kernel_locks_a_dead_pid_is_succeeded_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A7: on a file system without locks the next trainer need not wait for the lease of one that we see is gone; a
    live one, and one whose pids are not ours to see, hold.
    """
    monkeypatch.setattr("corelane.store.lease.fcntl.flock", _no_locks)
    for other in ({}, {"pid": 1 << 30, "pids": "pid:[1]"}):
        _left_by(tmp_path, **other)
        with pytest.raises(RunLockedError):
            lease(tmp_path).acquire()
    _left_by(tmp_path, pid=1 << 30)
    held = lease(tmp_path)
    held.acquire()
    held.release()


def _no_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, "No locks available")
