"""One entry on disk: opened whole, held and marked as used, or taken away so that nobody meets half of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from corelane.core.errors import BundleError
from corelane.store.bundle import write_bundle
from corelane.store.entry import EntryPlace, entry_bytes, evict_entry, is_entry, last_used_ns, open_entry, take_away


@pytest.fixture
def place(tmp_path: Path) -> EntryPlace:
    """A whole entry."""
    place = EntryPlace(tmp_path / "entries" / "a", tmp_path / "seals" / "a.json", "thing")
    with write_bundle(place.path, place.kind) as directory:
        (directory / "content").write_bytes(b"content")
    return place


def test_opening_holds_it_and_notes_the_time(place: EntryPlace) -> None:
    """While the entry is open it cannot be evicted; its last use is the time given, and survives."""
    entry = open_entry(place, now_s=1_800_000_000.0, on_broken=pytest.fail)
    assert entry is not None
    assert entry.was_found
    assert last_used_ns(place.path) == 1_800_000_000 * 10**9
    assert not evict_entry(place)
    entry.hold.release()
    assert evict_entry(place)
    assert last_used_ns(place.path) == 0


def test_nothing_there_is_none(tmp_path: Path) -> None:
    """An absent entry is not broken, and evicting it is done."""
    place = EntryPlace(tmp_path / "a", tmp_path / "a.json", "thing")
    assert open_entry(place, now_s=0.0, on_broken=pytest.fail) is None
    assert evict_entry(place)


def test_a_broken_one_is_told_and_goes_while_it_is_used(place: EntryPlace) -> None:
    """Who holds a broken entry keeps what it has open; the name is free for a new one."""
    used = open_entry(place, now_s=0.0, on_broken=pytest.fail)
    assert used is not None
    broken: list[BundleError] = []
    with (place.path / "content").open("rb") as file:
        (place.path / "extra").write_bytes(b"")
        assert open_entry(place, now_s=0.0, on_broken=broken.append) is None
        assert file.read() == b"content"
    assert len(broken) == 1
    assert not place.path.exists()


def test_one_that_is_evicted_meanwhile_is_not_broken(place: EntryPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that goes between the first look and the hold is a plain miss."""

    def late(path: Path) -> None:
        assert evict_entry(place)

    monkeypatch.setattr("corelane.store.entry.hold", late)
    assert open_entry(place, now_s=0.0, on_broken=pytest.fail) is None


def test_a_link_in_its_place_is_broken_and_what_it_points_to_stays(place: EntryPlace, tmp_path: Path) -> None:
    """A symbolic link is no entry; it is removed, never what lies behind it."""
    place.path.rename(tmp_path / "elsewhere")
    place.path.symlink_to(tmp_path / "elsewhere")
    broken: list[BundleError] = []
    assert open_entry(place, now_s=0.0, on_broken=broken.append) is None
    assert take_away(place)
    assert (tmp_path / "elsewhere" / "content").exists()


def test_what_counts_as_an_entry(place: EntryPlace) -> None:
    """Directories with a visible name are; unfinished work and notes are not. Its size is that of its files."""
    (place.path.parent / ".b.0123456789abcdef.tmp").mkdir()
    (place.path.parent / "note.json").write_bytes(b"{}")
    assert [path.name for path in place.path.parent.iterdir() if is_entry(path)] == ["a"]
    assert 7 + (place.path / "manifest.json").stat().st_size <= entry_bytes(place.path) < 1 << 18, "whole blocks"
