"""`corelane cache`: counts that are true, damage that is named, and nothing removed that somebody uses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

from corelane.app import cache as caching
from corelane.app.cache import CacheTiers, clear, stats, verify
from corelane.app.cache_text import size_text
from corelane.cli import cli
from corelane.core.errors import ConfigError, DataError
from corelane.store.bundle import MAX_MANIFEST_BYTES, Bundle
from corelane.store.entry import Entry, EntryPlace, evict_entry
from corelane.store.seal import verify_anew
from corelane.store.tiers.disk import DiskTier
from corelane.store.tiers.room import Room
from corelane.store.tiers.shared import SharedTier


def _build(tier: DiskTier, folder: str, name: str, content: bytes = b"content") -> Entry:
    return tier.open_or_build(folder, name, lambda directory: (directory / "file").write_bytes(content) and None)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with a disk tier and a shared one."""
    file = tmp_path / "config.yaml"
    shared = (tmp_path / "shared").as_uri()
    file.write_text(
        f"name: a\nmachine: {{cache: {tmp_path / 'cache'}, cache_disk_bytes: 1MiB, cache_shared: '{shared}'}}"
    )
    return file


@pytest.fixture
def tier(tmp_path: Path) -> DiskTier:
    """Two schemas and a download, which is archived too."""
    tier = DiskTier(tmp_path / "cache", archive=SharedTier((tmp_path / "shared").as_uri()))
    for folder, name in (("schemas", "a"), ("schemas", "b"), ("downloads", "c")):
        _build(tier, folder, name).hold.release()
    return tier


def _run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["cache", *map(str, arguments)])
    return result.exit_code, result.output


def test_stats_count_what_is_there(tier: DiskTier, config: Path) -> None:
    """Entries and bytes by tier and kind, what is in use, and the bound."""
    held = tier.open("schemas", "a")
    code, text = _run("stats", config, "--json")
    disk, shared = json.loads(text)["tiers"]
    assert code == 0
    assert (disk["tier"], disk["num_entries"], disk["limit_bytes"]) == ("disk", 3, 1 << 20)
    assert disk["num_bytes"] == tier.usage.num_bytes
    kinds = {kind["kind"]: (kind["num_entries"], kind["num_in_use"]) for kind in disk["kinds"]}
    assert kinds == {"schemas": (2, 1), "downloads": (1, 0)}
    assert (shared["tier"], shared["num_entries"], shared["limit_bytes"]) == ("shared", 1, None)
    assert held is not None
    _, text = _run("stats", config)
    assert "3 entries" in text
    assert "schemas" in text


def test_an_empty_cache_has_nothing(tmp_path: Path) -> None:
    """A directory that is not there yet is an empty cache."""
    tiers = CacheTiers(cache=tmp_path / "none", tier=None)
    assert stats(tiers)["tiers"][0]["num_entries"] == 0
    assert verify(tiers, repair=False) == {"num_entries": 0, "num_bytes": 0, "broken": []}
    assert clear(tiers) == {"num_removed": 0, "num_bytes": 0, "in_use": []}
    assert not (tmp_path / "none").exists()


def test_verify_names_what_is_broken_in_both_tiers(tier: DiskTier, config: Path, tmp_path: Path) -> None:
    """A flipped byte is found in each tier, said with what to do, and ends in exit code 2."""
    assert _run("verify", config)[0] == 0
    (tmp_path / "cache" / "schemas" / "a" / "file").write_bytes(b"Content")
    (tmp_path / "shared" / "downloads" / "c" / "file").write_bytes(b"Content")
    code, text = _run("verify", config, "--json")
    assert code == 2
    assert {(entry["tier"], entry["entry"]) for entry in json.loads(text)["broken"]} == {
        ("disk", "schemas/a"),
        ("shared", "downloads/c"),
    }
    assert "--repair" in _run("verify", config)[1]
    code, text = _run("verify", config, "--repair")
    assert (code, text.count("(removed)")) == (0, 2)
    assert verify(CacheTiers(config, cache=None, tier=None), repair=False)["broken"] == []


def test_what_is_evicted_meanwhile_is_not_broken(tier: DiskTier, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache in use: an entry that goes after it was listed is passed over, and one that is being hashed stays."""
    tiers = CacheTiers(config, cache=None, tier="disk")
    listed = tier.room.places()
    monkeypatch.setattr(Room, "places", lambda _: listed)
    assert evict_entry(listed[0])
    evicted: list[bool] = []

    def evict_then_verify(path: Path, kind: str, seal: Path, *, now_s: float) -> Bundle:
        evicted.append(evict_entry(EntryPlace(path, seal, kind)))
        return verify_anew(path, kind, seal, now_s=now_s)

    monkeypatch.setattr(caching, "verify_anew", evict_then_verify)
    answer = verify(tiers, repair=True)
    assert (answer["num_entries"], answer["broken"]) == (2, [])
    assert evicted == [True, False, False], "the first one was gone before"


def test_verify_does_not_believe_seals(tmp_path: Path) -> None:
    """Rot that no stamp shows is found: the file is hashed, whatever is known of it."""
    tier = DiskTier(tmp_path)
    _build(tier, "prepared", "a", bytes(2 << 20)).hold.release()
    entry = tier.open("prepared", "a")
    assert entry is not None
    entry.hold.release()
    file, seal = tmp_path / "prepared" / "a" / "file", tmp_path / "seals" / "prepared" / "a.json"
    file.write_bytes(b"x" + bytes((2 << 20) - 1))
    status = file.stat()
    stamps = {"file": [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]}
    seal.write_text(json.dumps({**json.loads(seal.read_text()), "stamps": stamps}))
    rotten = tier.open("prepared", "a")
    assert rotten is not None, "as far as the stamps tell"
    rotten.hold.release()
    (broken,) = verify(CacheTiers(cache=tmp_path, tier=None), repair=False)["broken"]
    assert "altered bytes" in broken["reason"]


def test_clear_leaves_what_is_in_use(tier: DiskTier, config: Path, tmp_path: Path) -> None:
    """Everything that nobody uses goes; the shared tier only when it is named."""
    held = tier.open("schemas", "b")
    leftover = tmp_path / "cache" / "prepared" / ".x.0123456789abcdef.tmp"
    leftover.mkdir(parents=True)
    code, text = _run("clear", config, "--json")
    answer = json.loads(text)
    assert (code, answer["num_removed"], answer["in_use"]) == (0, 2, ["schemas/b"])
    assert not leftover.exists()
    assert held is not None
    held.hold.release()
    assert "removed 1 entries" in _run("clear", "--cache", tmp_path / "cache")[1]
    assert (tmp_path / "shared" / "downloads" / "c" / "file").exists()
    _run("clear", config, "--tier", "shared")
    assert not (tmp_path / "shared" / "downloads" / "c" / "file").exists()


def test_what_is_not_ours_is_left_alone(tier: DiskTier, config: Path, tmp_path: Path) -> None:
    """Other files in the same storage, an upload that still runs, and a manifest of something else all stay."""
    shared = tmp_path / "shared"
    others = [
        "photos/2024/a.jpg",
        "downloads/2024/a.csv",
        "runs/half/logs/training.jsonl",
        "packages/web/manifest.json",
    ]
    for name in others:
        (shared / name).parent.mkdir(parents=True)
        (shared / name).write_bytes(b"{}")
    tiers = CacheTiers(config, cache=None, tier="shared")
    assert verify(tiers, repair=False)["num_entries"] == 2, "the download, and what calls itself a package"
    (named,) = verify(tiers, repair=True)["broken"]
    assert (named["entry"], named["is_removed"]) == ("packages/web", False)
    assert "must be a manifest of Corelane" in named["reason"]
    assert clear(tiers)["num_removed"] == 1
    assert {path.relative_to(shared).as_posix() for path in shared.rglob("*") if path.is_file()} == set(others)


def test_a_manifest_larger_than_any_of_ours_is_left_alone(tier: DiskTier, config: Path, tmp_path: Path) -> None:
    """It is named, neither read to its end nor removed, and the rest is looked at all the same."""
    large = tmp_path / "shared" / "arrays" / "a" / "manifest.json"
    large.parent.mkdir(parents=True)
    with large.open("wb") as file:
        file.truncate(MAX_MANIFEST_BYTES + 1)
    tiers = CacheTiers(config, cache=None, tier="shared")
    answer = verify(tiers, repair=True)
    assert answer["num_entries"] == 2
    assert [(entry["entry"], entry["is_removed"]) for entry in answer["broken"]] == [("arrays/a", False)]
    assert clear(tiers)["num_removed"] == 1
    assert large.exists()


def test_what_could_not_be_looked_at_is_not_called_whole(tier: DiskTier, config: Path, tmp_path: Path) -> None:
    """An object whose name no file can have ends the check with an error, not with nothing found."""
    url = f"memory://{tmp_path.name}"
    config.write_text(config.read_text().replace((tmp_path / "shared").as_uri(), url))
    MemoryFileSystem().pipe(f"{url}/downloads/a//manifest.json", b"{}")
    with pytest.raises(DataError, match="an object below a folder must have a name"):
        verify(CacheTiers(config, cache=None, tier="shared"), repair=False)


def test_a_tier_must_be_there(tmp_path: Path) -> None:
    """An unknown tier, and a shared one that is not configured, are the user's mistakes."""
    with pytest.raises(ConfigError, match="--tier must be one of"):
        CacheTiers(cache=tmp_path, tier="memory")
    with pytest.raises(ConfigError, match=r"machine\.cache_shared"):
        CacheTiers(cache=tmp_path, tier="shared")
    assert _run("stats", "--cache", tmp_path, "--tier", "elsewhere")[0] == 2


def test_sizes_are_said_in_their_unit() -> None:
    """Bytes below 1,024, then one decimal below a hundred."""
    assert [size_text(size) for size in (0, 1023, 1024, 15 << 20, 200 << 30)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "15.0 MiB",
        "200 GiB",
    ]
