"""The tier on disk: entries built once by whoever comes first, waited for by the others, and verified when found."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corelane.core.clock import ManualClock
from corelane.core.errors import ConfigError, DiskFullError
from corelane.store.bundle import verify_bundle
from corelane.store.entry import Entry
from corelane.store.hold import lock_directory
from corelane.store.tiers.archive import NoArchive
from corelane.store.tiers.disk import DiskTier


class _Builder:
    """Writes one file, and remembers how often it was asked and what the tier told."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.num_builds = 0
        self.told: list[str] = []
        self.tier = DiskTier(directory, tell=lambda event, _: self.told.append(event), **options)

    def __call__(self, directory: Path) -> None:
        self.num_builds += 1
        (directory / "content").write_bytes(b"content")

    def open(self) -> Entry:
        return self.tier.open_or_build("downloads", "a", self)


def test_an_entry_is_built_once(tmp_path: Path) -> None:
    """The first call builds, the second finds; nothing but the entry is left on disk."""
    builder = _Builder(tmp_path)
    first, second = builder.open(), builder.open()
    assert (first.was_found, second.was_found, builder.num_builds) == (False, True, 1)
    assert first.bundle.digest == second.bundle.digest
    assert builder.tier.meter.counts.hits == builder.tier.meter.counts.misses == 1
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"downloads/a/content", "downloads/a/manifest.json"}


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest", "version", "file"])
def test_a_broken_entry_is_told_counted_and_built_again(tmp_path: Path, damage: str) -> None:
    """A14: However an entry was damaged, the caller gets a whole one, also while another still uses the old one."""
    builder = _Builder(tmp_path)
    used = builder.open()
    target = used.bundle.path
    content, manifest = target / "content", target / "manifest.json"
    if damage == "flip":
        content.write_bytes(b"Content")
    elif damage == "cut":
        content.write_bytes(b"cont")
    elif damage == "remove":
        content.unlink()
    elif damage == "manifest":
        manifest.unlink()
    elif damage == "version":
        manifest.write_bytes(manifest.read_bytes().replace(b'"format_version":1', b'"format_version":9'))
    else:
        target.rename(tmp_path / "b")
        target.write_bytes(b"a file in its place")
    assert not builder.open().was_found
    assert (builder.num_builds, builder.told) == (2, ["cache_entry_broken"])
    assert builder.tier.meter.counts.broken == 1
    verify_bundle(target, "download")


@pytest.fixture
def unreadable(tmp_path: Path) -> Iterator[Path]:
    """A file of no bytes that the kernel answers with EIO, as it does for a broken sector: this process's page zero."""
    content = tmp_path / "cache" / "downloads" / "a" / "content"
    DiskTier(tmp_path / "cache").open_or_build("downloads", "a", lambda folder: (folder / "content").touch())
    subprocess.run(["mount", "--bind", f"/proc/{os.getpid()}/mem", str(content)], check=True)
    yield content
    for path in (tmp_path / "cache").rglob("content"):
        subprocess.run(["umount", str(path)], check=False, stderr=subprocess.DEVNULL)


@pytest.mark.needs("mount")
def test_an_entry_that_the_disk_cannot_read_is_built_again(tmp_path: Path, unreadable: Path) -> None:
    """An input/output error is damage like any other, and ends no run."""
    with pytest.raises(OSError, match="Input/output error"):
        unreadable.read_bytes()
    builder = _Builder(tmp_path / "cache")
    assert not builder.open().was_found
    assert (builder.num_builds, builder.told) == (1, ["cache_entry_broken"])
    verify_bundle(unreadable.parent, "download")


def test_others_wait_for_the_one_who_builds(tmp_path: Path) -> None:
    """A14: While one thread builds, another that wants the same waits, and finds it."""
    one, other = _Builder(tmp_path), _Builder(tmp_path)
    is_waiting = threading.Event()
    other.tier = DiskTier(tmp_path, tell=lambda event, _: is_waiting.set() if event == "cache_waits" else None)
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(other.open().was_found))

    def build(directory: Path) -> None:
        thread.start()
        assert is_waiting.wait(10)
        one(directory)

    assert not one.tier.open_or_build("downloads", "a", build).was_found
    thread.join()
    assert found == [True]
    assert other.num_builds == 0


def test_waiting_is_bounded(tmp_path: Path) -> None:
    """Who has waited long enough builds too; the first to finish wins, the other uses that one, and it is told."""
    clock = ManualClock(1_700_000_000.0)
    patient = _Builder(tmp_path, wait_s=30.0, clock=clock)
    inner: list[Entry] = []

    def build(directory: Path) -> None:
        inner.append(patient.open())
        (directory / "content").write_bytes(b"later")

    outer = DiskTier(tmp_path).open_or_build("downloads", "a", build)
    assert patient.told == ["cache_waits", "cache_waited_too_long"]
    assert 30.0 <= sum(clock.slept) < 31.0
    assert outer.bundle.digest == inner[0].bundle.digest
    assert (outer.bundle.path / "content").read_bytes() == b"content"


class _Releasing(ManualClock):
    """A clock that closes `descriptor` when somebody first waits."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(1_700_000_000.0)
        self._descriptor = descriptor

    def sleep(self, duration_s: float) -> None:
        if not self.slept:
            os.close(self._descriptor)
        super().sleep(duration_s)


def test_an_entry_that_is_locked_for_a_moment_is_found(tmp_path: Path) -> None:
    """Who looks whether an entry is used locks it for that long; others wait, and do not take it for evicted."""
    path = _Builder(tmp_path).open().bundle.path
    descriptor = lock_directory(path, fcntl.LOCK_EX)
    assert descriptor is not None
    builder = _Builder(tmp_path, clock=_Releasing(descriptor))
    assert builder.open().was_found
    assert builder.told == []


def test_an_entry_that_stays_locked_is_given_up(tmp_path: Path) -> None:
    """Waiting for a lock ends, in words that name the entry."""
    descriptor = lock_directory(_Builder(tmp_path).open().bundle.path, fcntl.LOCK_EX)
    assert descriptor is not None
    clock = ManualClock(1_700_000_000.0)
    with pytest.raises(DiskFullError, match="downloads/a must stay in the cache"):
        _Builder(tmp_path, clock=clock).open()
    os.close(descriptor)
    assert 4.9 < sum(clock.slept) < 5.2


class _SlowArchive(NoArchive):
    """Asks `meanwhile`, while an upload runs."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self._meanwhile = meanwhile

    def keep(self, folder: str, name: str, bundle: Path) -> bool:
        self._meanwhile()
        return super().keep(folder, name, bundle)


def test_nobody_waits_for_an_upload(tmp_path: Path) -> None:
    """An entry is found, and its builder's lock is free, while it goes to the archive."""
    found: list[bool] = []

    def meanwhile() -> None:
        assert list((tmp_path / "locks").iterdir()) == []
        found.append(_Builder(tmp_path).open().was_found)

    assert not _Builder(tmp_path, archive=_SlowArchive(meanwhile)).open().was_found
    assert found == [True]


HANG = """
import sys, time
from pathlib import Path
from corelane.store.tiers.disk import DiskTier

def build(directory):
    (directory / "content").write_bytes(b"half")
    print("building", flush=True)
    time.sleep(60)

DiskTier(Path(sys.argv[1])).open_or_build("downloads", "a", build)
"""


def test_a_killed_builder_is_not_waited_for(tmp_path: Path) -> None:
    """A14: The lock of a builder that was killed ends with it, and its half entry goes."""
    with subprocess.Popen([sys.executable, "-c", HANG, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "building\n"
        builder = _Builder(tmp_path)
        waiting = threading.Thread(target=builder.open)
        waiting.start()
        while builder.told != ["cache_waits"]:
            os.sched_yield()
        process.send_signal(signal.SIGKILL)
        waiting.join(timeout=30)
    assert not waiting.is_alive()
    assert builder.num_builds == 1
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == ["a"]
    assert list((tmp_path / "locks").iterdir()) == []


COUNT = """
import sys
from pathlib import Path
from corelane.store.tiers.disk import DiskTier

folder = Path(sys.argv[1])
sys.stdin.readline()

def build(directory):
    with (folder / "builds").open("a") as file:
        file.write("x")
    (directory / "content").write_bytes(bytes(1 << 20))

print(DiskTier(folder).open_or_build("downloads", "a", build).bundle.digest)
"""


def test_processes_at_once_build_one_entry_once(tmp_path: Path) -> None:
    """A14: Four processes that start together on an empty cache make the entry one time between them."""
    command = [sys.executable, "-c", COUNT, str(tmp_path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(4)]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    digests = {process.communicate(timeout=60)[0] for process in processes}
    assert len(digests) == 1
    assert digests != {""}
    assert (tmp_path / "builds").read_text() == "x"


def test_a_complaint_of_the_builder_reaches_the_caller(tmp_path: Path) -> None:
    """An error of the builder is not taken for a lost race, and leaves nothing."""

    def build(directory: Path) -> None:
        raise ConfigError("no such column")

    with pytest.raises(ConfigError, match="no such column"):
        DiskTier(tmp_path).open_or_build("downloads", "a", build)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _large(num_bytes: int) -> dict[str, Any]:
    return {"x": np.ones(num_bytes, dtype=np.uint8)}


@pytest.mark.needs("mount")
def test_a_full_disk_takes_other_entries_first(small_disk: Path) -> None:
    """A15: What does not fit on the disk fits once older entries have gone, for builders that count and for others."""
    tier = DiskTier(small_disk)
    for name in ("a", "b", "c"):
        assert tier.put(name, _large(400 << 10)), name
    assert tier.get("c") is not None
    assert tier.meter.counts.evictions == 1

    def build(directory: Path) -> None:
        (directory / "content").write_bytes(bytes(600 << 10))

    tier.open_or_build("downloads", "d", build).hold.release()
    assert tier.open("downloads", "d") is not None


@pytest.mark.needs("mount")
def test_a_disk_that_stays_full_keeps_nothing_and_breaks_nothing(small_disk: Path) -> None:
    """A value that finds no room is not kept; a builder hears of it; entries in use are whole."""
    told: list[str] = []
    tier = DiskTier(small_disk, tell=lambda event, _: told.append(event))

    def build(directory: Path) -> None:
        (directory / "content").write_bytes(bytes(600 << 10))

    used = tier.open_or_build("downloads", "d", build)
    assert not tier.put("large", _large(600 << 10))
    assert told == ["cache_not_kept"]
    with pytest.raises(DiskFullError):
        tier.open_or_build("downloads", "e", build)
    verify_bundle(used.bundle.path, "download")


def test_a_directory_that_cannot_be_written_is_told_in_words(tmp_path: Path) -> None:
    """A file in the place of the cache directory is the user's to mend."""
    (tmp_path / "cache").write_bytes(b"")
    told: list[str] = []
    tier = DiskTier(tmp_path / "cache", tell=lambda event, _: told.append(event))
    assert not tier.put("one", _large(10)), "what need not be kept is not"
    assert told == ["cache_not_kept"]
    with pytest.raises(ConfigError, match="must be a directory that can be written"):
        DiskTier(tmp_path / "cache").open_or_build("downloads", "a", lambda _: None)
