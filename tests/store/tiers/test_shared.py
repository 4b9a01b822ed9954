"""The shared tier: whole entries or none, on file systems and object stores; a store that fails costs one warning."""

from __future__ import annotations

import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corelane.core.errors import ConfigError
from corelane.store.bundle import write_bundle
from corelane.store.remote import RemoteStore
from corelane.store.tiers.disk import DiskTier
from corelane.store.tiers.shared import SharedTier
from tests.servers.ports import free_port
from tests.servers.s3 import Bucket

VALUE = {"x": np.arange(1000)}
HDFS = {"host": "127.0.0.1", "port": 1}


def _bundle(folder: Path, rows: bytes = b"a,b\n1,2\n") -> Path:
    with write_bundle(folder, "download") as directory:
        (directory / "files").mkdir()
        (directory / "files" / "rows.csv").write_bytes(rows)
    return folder


def test_an_entry_goes_from_machine_to_machine(tmp_path: Path, bucket: Bucket) -> None:
    """What one keeps, another fetches, nested files and all; keeping it twice is the same as once."""
    tiers = [SharedTier(f"{bucket.url}/cache", bucket.options) for _ in range(2)]
    bundle = _bundle(tmp_path / "one")
    assert tiers[0].keep("downloads", "a", bundle)
    assert tiers[0].keep("downloads", "a", bundle)
    assert tiers[0].num_bytes == 8
    assert tiers[1].fetch("downloads", "a", "download", tmp_path / "two")
    assert (tmp_path / "two" / "files" / "rows.csv").read_bytes() == b"a,b\n1,2\n"
    assert not tiers[1].fetch("downloads", "b", "download", tmp_path / "three")
    assert not (tmp_path / "three").exists()
    assert (tiers[1].meter.counts.hits, tiers[1].meter.counts.misses) == (1, 1)


def test_a_half_written_entry_is_none(tmp_path: Path) -> None:
    """Without its manifest, which is written last, nothing is there; writing it again makes it whole."""
    tier = SharedTier((tmp_path / "shared").as_uri())
    bundle = _bundle(tmp_path / "one")
    tier.keep("downloads", "a", bundle)
    (tmp_path / "shared" / "downloads" / "a" / "manifest.json").unlink()
    assert not tier.fetch("downloads", "a", "download", tmp_path / "two")
    assert tier.keep("downloads", "a", bundle)
    assert tier.fetch("downloads", "a", "download", tmp_path / "two")


def test_a_manifest_that_leads_outside_is_refused(tmp_path: Path) -> None:
    """A manifest that names a file outside its entry is broken; nothing is read or written for it."""
    tier = SharedTier((tmp_path / "shared").as_uri())
    tier.keep("downloads", "a", _bundle(tmp_path / "one"))
    manifest = tmp_path / "shared" / "downloads" / "a" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"files/rows.csv", b"../../rows.csv"))
    assert not tier.fetch("downloads", "a", "download", tmp_path / "two")
    assert tier.meter.counts.broken == 1
    assert not manifest.exists()


def test_an_entry_is_none_while_it_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads when the new files are there and their manifest is not finds nothing, and removes nothing."""
    writer, reader = (SharedTier((tmp_path / "shared").as_uri()) for _ in range(2))
    writer.keep("notes", "a", _bundle(tmp_path / "old"))
    new = _bundle(tmp_path / "new", b"a,b\n3,4\n")
    found: list[bool] = []
    put = RemoteStore.put

    def read_then_put(store: RemoteStore, source: Path, url: str) -> None:
        if url.endswith("manifest.json"):
            found.append(reader.fetch("notes", "a", "download", tmp_path / "early"))
        put(store, source, url)

    monkeypatch.setattr(RemoteStore, "put", read_then_put)
    assert writer.keep("notes", "a", new)
    assert found == [False]
    assert reader.meter.counts.broken == 0
    assert reader.fetch("notes", "a", "download", tmp_path / "late")
    assert (tmp_path / "late" / "files" / "rows.csv").read_bytes() == b"a,b\n3,4\n"


def test_an_entry_that_is_replaced_while_it_is_read_is_a_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine writes between the manifest that was read and its files: that is no damage, and nothing goes."""
    writer, reader = (SharedTier((tmp_path / "shared").as_uri()) for _ in range(2))
    writer.keep("notes", "a", _bundle(tmp_path / "old"))
    new = _bundle(tmp_path / "new", b"a,b\n3,4\n")
    copy = RemoteStore.copy

    def replace_then_copy(store: RemoteStore, url: str, target: Path) -> None:
        assert writer.keep("notes", "a", new)
        copy(store, url, target)

    monkeypatch.setattr(RemoteStore, "copy", replace_then_copy)
    assert not reader.fetch("notes", "a", "download", tmp_path / "early")
    assert reader.meter.counts.broken == 0
    assert reader.fetch("notes", "a", "download", tmp_path / "late")
    assert (tmp_path / "late" / "files" / "rows.csv").read_bytes() == b"a,b\n3,4\n"


def test_an_entry_of_another_release_is_a_miss_and_stays(tmp_path: Path) -> None:
    """A format that this release does not know is no damage: it is neither told, removed nor replaced."""
    told: list[str] = []
    tier = SharedTier((tmp_path / "shared").as_uri(), tell=lambda event, fields: told.append(event))
    bundle = _bundle(tmp_path / "one")
    tier.keep("downloads", "a", bundle)
    manifest = tmp_path / "shared" / "downloads" / "a" / "manifest.json"
    newer = manifest.read_bytes().replace(b'"format_version":1', b'"format_version":2')
    manifest.write_bytes(newer)
    assert not tier.fetch("downloads", "a", "download", tmp_path / "two")
    assert tier.check("downloads/a") is None
    assert not tier.keep("downloads", "a", bundle)
    assert manifest.read_bytes() == newer
    assert (told, tier.meter.counts.broken) == ([], 0)


def test_a_machine_without_room_for_the_files_has_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no temporary file can be made, putting and getting are told and cost no run."""
    told: list[str] = []
    tier = SharedTier((tmp_path / "shared").as_uri(), tell=lambda event, fields: told.append(event))
    assert tier.put("one", VALUE)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert tier.get("one") is None
    assert not tier.put("two", VALUE)
    assert told == ["cache_not_read", "cache_not_kept"]
    monkeypatch.undo()
    assert tier.get("one") is not None
    assert (tier.meter.counts.hits, tier.meter.counts.misses) == (1, 1)


def test_a_store_that_cannot_be_reached_is_told_once(tmp_path: Path) -> None:
    """Nobody listens: every call is a miss, and one warning says so."""
    told: list[Any] = []
    options = {"key": "a", "secret": "b", "endpoint_url": f"http://127.0.0.1:{free_port()}"}
    tier = SharedTier("s3://bucket/cache", options, tell=lambda event, fields: told.append((event, fields)))
    assert tier.get("one") is None
    assert not tier.put("one", VALUE)
    assert not tier.keep("downloads", "a", _bundle(tmp_path / "one"))
    tier.remove("one")
    assert [event for event, _ in told] == ["cache_shared_failed"]
    assert told[0][1]["url"] == "s3://bucket/cache"


def test_a_driver_that_connects_when_it_is_made_is_told_once(tmp_path: Path) -> None:
    """The driver for HDFS fails in its constructor: the tier is made, and what fails is a miss as with any store."""
    told: list[str] = []
    tier = SharedTier("hdfs://127.0.0.1:1/cache", HDFS, tell=lambda event, fields: told.append(event))
    assert tier.get("one") is None
    assert not tier.keep("downloads", "a", _bundle(tmp_path / "one"))
    assert told == ["cache_shared_failed"]


def test_a_store_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    """A server that accepts and never answers costs the time given, once."""
    told: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        options = {"key": "a", "secret": "b", "endpoint_url": f"http://127.0.0.1:{server.getsockname()[1]}"}
        tier = SharedTier("s3://bucket/cache", options, timeout_s=0.5, tell=lambda event, fields: told.append(event))
        start = time.monotonic()
        for _ in range(20):
            assert tier.get("one") is None
        assert time.monotonic() - start < 8, "twenty calls of half a second"
    assert told == ["cache_shared_failed"]


@pytest.mark.parametrize("url", ["https://example.org/cache", "nowhere://x", "/a/path", "s3://a/../b"])
def test_a_url_that_cannot_be_is_refused_at_once(url: str) -> None:
    """A mistake in the configuration is told before anything starts."""
    with pytest.raises(ConfigError, match="must begin with one of"):
        SharedTier(url)


def test_downloads_are_looked_for_and_kept_there(tmp_path: Path) -> None:
    """What one machine has downloaded, another's disk tier takes from the archive; other kinds stay local."""
    archives = [SharedTier((tmp_path / "shared").as_uri()) for _ in range(2)]
    one, two = (DiskTier(tmp_path / f"disk{index}", archive=archive) for index, archive in enumerate(archives))

    def build(directory: Path) -> None:
        (directory / "rows.csv").write_bytes(b"rows")

    def never(directory: Path) -> None:
        raise AssertionError("it must come from the archive")

    first = one.open_or_build("downloads", "a", build)
    second = two.open_or_build("downloads", "a", never)
    assert not second.was_found
    assert second.bundle.digest == first.bundle.digest
    one.open_or_build("schemas", "b", build).hold.release()
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["downloads"]


def test_a_broken_archive_costs_a_download_and_is_mended(tmp_path: Path) -> None:
    """A flipped byte in the archive is found; the file is fetched from its source and archived anew."""
    one = DiskTier(tmp_path / "one", archive=SharedTier((tmp_path / "shared").as_uri()))

    def build(directory: Path) -> None:
        (directory / "rows.csv").write_bytes(b"rows")

    one.open_or_build("downloads", "a", build).hold.release()
    archived = tmp_path / "shared" / "downloads" / "a" / "rows.csv"
    archived.write_bytes(b"Rows")
    two = DiskTier(tmp_path / "two", archive=SharedTier((tmp_path / "shared").as_uri()))
    entry = two.open_or_build("downloads", "a", build)
    assert (entry.bundle.path / "rows.csv").read_bytes() == b"rows"
    assert archived.read_bytes() == b"rows"
