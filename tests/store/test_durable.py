"""Files that replace each other whole, and leftovers that are removed only when their writer is dead."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from corelane.core.errors import ConfigError
from corelane.store.durable import remove_temporaries, temporary_file, write_atomic

WRITER = """
import sys
from pathlib import Path
from corelane.store.bundle import write_bundle
with write_bundle(Path(sys.argv[1]), "checkpoint") as directory:
    (directory / "half").write_bytes(b"half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_write_atomic_replaces_whole(tmp_path: Path) -> None:
    """The new content replaces the old, parents are made, and nothing else is left."""
    path = tmp_path / "new" / "file"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_new_parents_are_flushed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that survives a power cut is of no use in a directory that does not: every new name is flushed."""
    flushed: list[Path] = []
    flush = os.fsync

    def record(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    write_atomic(tmp_path / "run" / "checkpoints" / "file", b"one")
    assert {tmp_path, tmp_path / "run", tmp_path / "run" / "checkpoints"} <= set(flushed)


def test_an_error_keeps_the_old_content(tmp_path: Path) -> None:
    """A writer that fails half-way leaves the file as it was."""
    path = tmp_path / "file"
    write_atomic(path, b"one")

    def fail() -> None:
        with temporary_file(path) as temporary:
            temporary.write_bytes(b"tw")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_bytes() == b"one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_directory_in_the_way_is_said(tmp_path: Path) -> None:
    """A parent that is a file is a `ConfigError` that names it."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="file must be a directory"):
        write_atomic(tmp_path / "file" / "below", b"")


def test_leftovers_of_a_killed_writer_go_and_a_live_one_keeps_its_own(tmp_path: Path) -> None:
    """While the writer lives its temporary directory stays; once it is killed the next clean-up removes it."""
    (tmp_path / "bystander.tmp").write_bytes(b"")
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "a")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        remove_temporaries(tmp_path)
        assert len(list(tmp_path.iterdir())) == 2
        writer.kill()
        writer.wait()
    assert not (tmp_path / "a").exists()
    remove_temporaries(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["bystander.tmp"]


@pytest.fixture
def network_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule of NFS, which this machine has none of: who locks a file for itself alone has it open for writing."""
    flock = fcntl.flock

    def checked(descriptor: int, kind: int) -> None:
        access = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
        if kind & fcntl.LOCK_EX and access == os.O_RDONLY and not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", checked)


@pytest.mark.usefixtures("network_locks")
def test_network_file_systems_lock_what_is_open_for_writing(tmp_path: Path) -> None:
    """A file is written, held while it is, and its leftovers are removed, by the rules of NFS too."""
    (tmp_path / ".file.0123456789abcdef.tmp").write_bytes(b"left")
    with temporary_file(tmp_path / "file") as temporary:
        remove_temporaries(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [temporary.name]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_locks_files_are_written_and_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody can tell a dead writer from a live one, leftovers stay."""

    def refuse(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / ".file.0123456789abcdef.tmp").write_bytes(b"of whom?")
    write_atomic(tmp_path / "file", b"one")
    remove_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".file.0123456789abcdef.tmp", "file"]


def test_remove_temporaries_needs_no_directory(tmp_path: Path) -> None:
    """A directory that is not there has no leftovers."""
    remove_temporaries(tmp_path / "none")
    assert not (tmp_path / "none").exists()
