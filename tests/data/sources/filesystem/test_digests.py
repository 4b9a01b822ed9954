"""Digests kept between runs: right whatever happened to the files, and no reading where nothing did."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from corelane.core.errors import DataError
from corelane.data.sources.filesystem.digests import kept_digest
from corelane.data.sources.filesystem.files import FrozenFile, content_digest
from corelane.store.seal import SEALED_BYTES, is_settled, stamp_of
from corelane.store.tiers.disk import DiskTier


@pytest.fixture
def cache(tmp_path: Path) -> DiskTier:
    """An empty cache."""
    return DiskTier(tmp_path / "cache")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were opened to be read."""
    opened: list[Path] = []
    original = FrozenFile.open

    @contextmanager
    def noted(self: FrozenFile) -> Iterator[BinaryIO]:
        opened.append(self.path)
        with original(self) as file:
            yield file

    monkeypatch.setattr(FrozenFile, "open", noted)
    return opened


def _file(folder: Path, fill: bytes = b"a", name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_bytes(fill * SEALED_BYTES)
    _settle(path)
    return path


def _settle(path: Path) -> None:
    """Let the clock move on until a change of the file must show."""
    while not is_settled(stamp_of(path.stat()), time.time_ns()):
        os.sched_yield()


def _digest(path: Path, cache: DiskTier | None, *facts: str) -> str:
    return kept_digest([FrozenFile.freeze(path, "data.source.path")], facts, cache)


def test_an_untouched_file_is_not_read_again(tmp_path: Path, cache: DiskTier, read: list[Path]) -> None:
    """The next source over the same file has its digest without opening it, and it is the content's."""
    path = _file(tmp_path)
    expected = content_digest([FrozenFile.freeze(path, "a")], "csv")
    read.clear()
    assert [_digest(path, cache, "csv") for _ in range(3)] == [expected] * 3
    assert read == [path]


@pytest.mark.parametrize("touch", ["write", "restore the time", "replace", "another fact"])
def test_whatever_changed_is_read(tmp_path: Path, cache: DiskTier, read: list[Path], touch: str) -> None:
    """Other content of the same size, also with the old time of change or in another file, has its own digest."""
    path = _file(tmp_path)
    first, status = _digest(path, cache, "csv"), path.stat()
    if touch == "another fact":
        assert _digest(path, cache, "tsv") != first
        return
    if touch == "replace":
        _file(tmp_path, b"b", "other").replace(path)
    else:
        path.write_bytes(b"b" * SEALED_BYTES)
    if touch != "write":
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    read.clear()
    assert _digest(path, cache, "csv") != first
    assert read == [path]


def test_a_file_that_changed_a_moment_ago_is_not_remembered(
    tmp_path: Path, cache: DiskTier, read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a tick it could change again and look the same, so it is read until it is older."""
    path = _file(tmp_path)
    monkeypatch.setattr(time, "time_ns", lambda: path.stat().st_ctime_ns + 1000)
    for _ in range(2):
        _digest(path, cache)
    assert len(read) == 2
    monkeypatch.undo()


def test_a_file_that_changed_since_it_was_listed_is_an_error(tmp_path: Path, cache: DiskTier) -> None:
    """A kept digest of the old content is not taken for a file that is another by now."""
    path = _file(tmp_path)
    frozen = FrozenFile.freeze(path, "data.source.path")
    kept_digest([frozen], (), cache)
    path.write_bytes(b"b" * (SEALED_BYTES + 1))
    with pytest.raises(DataError, match="must not change while it is read"):
        kept_digest([frozen], (), cache)
    path.unlink()
    with pytest.raises(DataError):
        kept_digest([frozen], (), cache)


def test_small_files_are_read_and_leave_nothing(tmp_path: Path, cache: DiskTier) -> None:
    """Reading a small file costs less than remembering it; without a cache every file is read."""
    path = tmp_path / "rows.csv"
    path.write_bytes(b"a,b\n1,2\n")
    assert _digest(path, cache) == _digest(path, None)
    assert not cache.directory.exists()
