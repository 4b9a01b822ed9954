"""The bound of a cache directory: who goes, who stays, and what is not touched."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corelane.core.errors import ConfigError, DiskFullError
from corelane.store.entry import Entry
from corelane.store.tiers.disk import DiskTier
from tests.store.tiers.times import Ticking


def _writer(num_bytes: int) -> Callable[[Path], None]:
    return lambda directory: (directory / "content").write_bytes(bytes(num_bytes)) and None


def _build(tier: DiskTier, name: str, num_bytes: int = 60_000) -> Entry:
    return tier.open_or_build("downloads", name, _writer(num_bytes))


def _names(tier: DiskTier) -> set[str]:
    return {place.path.name for place in tier.room.places()}


def test_the_least_recently_used_go_in_the_next_process_too(tmp_path: Path) -> None:
    """The order of use is on disk: another tier over the same directory evicts by it."""
    clock = Ticking()
    first = DiskTier(tmp_path, 1_000_000, clock=clock)
    for name in ("a", "b", "c"):
        _build(first, name).hold.release()
    _build(first, "a").hold.release()  # found, and so used
    second = DiskTier(tmp_path, 280_000, clock=clock)  # four, each with a manifest
    for name in ("d", "e"):
        _build(second, name).hold.release()
    assert _names(second) == {"c", "a", "d", "e"}
    assert second.meter.counts.evictions == 1


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    """Held entries are never evicted, also when the tier is above its bound without them; released, they go."""
    tier = DiskTier(tmp_path, 150_000, clock=Ticking())
    held = [_build(tier, name) for name in ("a", "b", "c", "d")]
    assert _names(tier) == {"a", "b", "c", "d"}
    for entry in held:
        entry.hold.release()
    _build(tier, "e").hold.release()
    assert _names(tier) == {"d", "e"}


HOLD = """
import sys
from pathlib import Path
from corelane.store.tiers.disk import DiskTier

entry = DiskTier(Path(sys.argv[1])).open("downloads", "a")
print("holds", flush=True)
sys.stdin.readline()
"""


def test_what_another_process_uses_stays_until_it_ends(tmp_path: Path) -> None:
    """An entry that a child has open is not evicted; when the child is killed, it may go."""
    tier = DiskTier(tmp_path, 100_000, clock=Ticking())
    _build(tier, "a").hold.release()
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        _build(tier, "b").hold.release()
        assert _names(tier) == {"a", "b"}, "b is in use while the bound is kept, a is in use by the child"
        process.kill()
    _build(tier, "c").hold.release()
    assert _names(tier) == {"c"}


def test_an_entry_that_is_evicted_takes_its_seal_along(tmp_path: Path) -> None:
    """Nothing of an evicted entry is left behind."""
    tier = DiskTier(tmp_path, 3 << 20, clock=Ticking())
    for name in ("a", "b", "c"):
        _build(tier, name, 2 << 20).hold.release()
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(files) == ["downloads/c/content", "downloads/c/manifest.json", "seals/downloads/c.json"]


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    """A directory that holds other things too loses none of them."""
    for path in (tmp_path / "precious" / "file", tmp_path / "downloads" / "note.json", tmp_path / "file"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(500_000))
    tier = DiskTier(tmp_path, 100_000, clock=Ticking())
    _build(tier, "a").hold.release()
    _build(tier, "b").hold.release()
    assert _names(tier) == {"b"}
    assert (tmp_path / "precious" / "file").exists()
    assert (tmp_path / "downloads" / "note.json").exists()
    assert (tmp_path / "file").exists()


def test_room_is_made_before_it_is_needed(tmp_path: Path) -> None:
    """A builder that knows its size has the others evicted first, so that the disk never holds more than the bound."""
    told: list[Any] = []
    tier = DiskTier(tmp_path, 330_000, clock=Ticking(), tell=lambda event, fields: told.append((event, fields)))
    for name in ("a", "b", "c", "d"):
        _build(tier, name).hold.release()

    def build(directory: Path) -> None:
        tier.room.make(220_000)
        assert _names(tier) == {"d"}
        (directory / "content").write_bytes(bytes(220_000))

    tier.open_or_build("downloads", "large", build).hold.release()
    assert _names(tier) == {"d", "large"}
    assert [fields["entry"] for event, fields in told if event == "cache_entry_evicted"] == [
        f"downloads/{name}" for name in ("a", "b", "c")
    ]


def test_more_than_the_bound_is_refused_with_the_bytes_needed(tmp_path: Path) -> None:
    """An entry that can never fit evicts nobody, and the error says what to set."""
    tier = DiskTier(tmp_path, 100_000, clock=Ticking())
    _build(tier, "a").hold.release()
    with pytest.raises(DiskFullError, match=r"machine.cache_disk_bytes must be at least 150000 .*got 100000"):
        tier.room.make(150_000)
    assert _names(tier) == {"a"}


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    """Only the folders of the cache are written to."""
    with pytest.raises(ConfigError, match="of a kind in prepared"):
        DiskTier(tmp_path).room.place("elsewhere", "a")


def test_what_other_processes_build_counts(tmp_path: Path) -> None:
    """Two tiers over one directory that fill it in turn keep it about within the bound, though each counts its own."""
    clock = Ticking()
    tiers = [DiskTier(tmp_path, 1_000_000, clock=clock) for _ in range(2)]
    for number in range(40):
        _build(tiers[number % 2], f"e{number}").hold.release()
        assert tiers[0].usage.num_bytes <= 1_000_000 * (1 + 2 / 16) + 70_000
    assert len(_names(tiers[0])) >= 12
