"""Holds keep entries where they are; one builder at a time; both end with their owner."""

from __future__ import annotations

import errno
import fcntl
import gc
from pathlib import Path

import pytest

from corelane.core.clock import ManualClock
from corelane.store.entry import EntryPlace, evict_entry
from corelane.store.hold import builder_lock, hold, sweep_locks


@pytest.fixture
def place(tmp_path: Path) -> EntryPlace:
    """An entry of one file."""
    (tmp_path / "entry").mkdir()
    (tmp_path / "entry" / "file").write_bytes(b"content")
    return EntryPlace(tmp_path / "entry", tmp_path / "seal.json", "thing")


def test_a_held_entry_is_not_evicted(place: EntryPlace) -> None:
    """While anyone holds it, it stays; then it goes, whole."""
    one, two = hold(place.path), hold(place.path)
    assert one is not None
    assert two is not None
    assert not evict_entry(place)
    one.release()
    one.release()
    assert not evict_entry(place)
    two.release()
    assert evict_entry(place)
    assert list(place.path.parent.iterdir()) == []


def test_a_hold_ends_with_its_object(place: EntryPlace) -> None:
    """A forgotten hold does not keep an entry for the life of the process."""
    held = hold(place.path)
    del held
    gc.collect()
    assert evict_entry(place)


def test_what_is_not_there_cannot_be_held(tmp_path: Path) -> None:
    """No directory, no hold; a link to one is none."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert hold(tmp_path / "none") is None
    assert hold(tmp_path / "link") is None


def test_the_builder_lock_leaves_no_file(tmp_path: Path) -> None:
    """Its file is there while it is held, and gone afterwards."""
    lock = tmp_path / "locks" / "a"
    with builder_lock(lock, wait_s=1.0, clock=ManualClock(), tell=pytest.fail):
        assert lock.exists()
    assert not lock.exists()


def test_where_no_file_can_be_locked_nobody_waits_and_nothing_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without locks costs at most a second build."""

    def refuse(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with builder_lock(tmp_path / "a", wait_s=1.0, clock=ManualClock(), tell=pytest.fail):
        assert tmp_path / "a" not in [path.resolve() for path in Path("/proc/self/fd").iterdir()]


def test_lock_files_of_killed_builders_are_swept(tmp_path: Path) -> None:
    """What nobody holds goes, what somebody holds stays; a folder that is not there is swept."""
    (tmp_path / "left").write_bytes(b"")
    with builder_lock(tmp_path / "held", wait_s=1.0, clock=ManualClock(), tell=pytest.fail):
        sweep_locks(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["held"]
    sweep_locks(tmp_path / "none")


def test_waiting_for_a_builder_ends(tmp_path: Path) -> None:
    """A lock that is held on is passed by after the time given, and still there for its holder."""
    lock, clock, told = tmp_path / "a", ManualClock(), []
    with builder_lock(lock, wait_s=1.0, clock=ManualClock(), tell=pytest.fail):
        with builder_lock(lock, wait_s=5.0, clock=clock, tell=told.append):
            assert told == ["cache_waits", "cache_waited_too_long"]
        assert lock.exists()
        assert 5.0 <= sum(clock.slept) < 5.2
