"""Cache entries: built once, found afterwards, built again when broken, by any number of processes at once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from corelane.core.errors import BundleError, ConfigError
from corelane.store.bundle import Bundle, verify_bundle
from corelane.store.entry import open_or_build


class _Builder:
    """Writes one file, and remembers how often it was asked and what it was told to be broken."""

    def __init__(self) -> None:
        self.num_builds = 0
        self.broken: list[BundleError] = []

    def __call__(self, directory: Path) -> None:
        self.num_builds += 1
        (directory / "content").write_bytes(b"content")

    def open(self, target: Path) -> tuple[Bundle, bool]:
        return open_or_build(target, "thing", self, on_broken=self.broken.append)


def test_an_entry_is_built_once(tmp_path: Path) -> None:
    """The first call builds, the second finds."""
    builder = _Builder()
    first, was_found = builder.open(tmp_path / "entries" / "a")
    assert not was_found
    second, was_found = builder.open(tmp_path / "entries" / "a")
    assert was_found
    assert builder.num_builds == 1
    assert first.digest == second.digest


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest", "file"])
def test_a_broken_entry_is_reported_and_built_again(tmp_path: Path, damage: str) -> None:
    """However an entry was damaged, the caller gets a whole one, and the damage is told."""
    builder = _Builder()
    target = builder.open(tmp_path / "a")[0].path
    content = target / "content"
    if damage == "flip":
        content.write_bytes(b"Content")
    elif damage == "cut":
        content.write_bytes(b"cont")
    elif damage == "remove":
        content.unlink()
    elif damage == "manifest":
        (target / "manifest.json").unlink()
    else:
        target.rename(tmp_path / "b")
        target.write_bytes(b"a file in its place")
    _, was_found = builder.open(target)
    assert not was_found
    assert (builder.num_builds, len(builder.broken)) == (2, 1)
    verify_bundle(target, "thing")


def test_builders_at_the_same_time_share_the_first_to_finish(tmp_path: Path) -> None:
    """Two that build one entry at once both get the same whole bundle."""
    both_build = threading.Barrier(2)
    digests = []

    def build(directory: Path) -> None:
        both_build.wait(timeout=10)
        (directory / "content").write_bytes(threading.current_thread().name.encode())

    def ask() -> None:
        digests.append(open_or_build(tmp_path / "a", "thing", build, on_broken=pytest.fail)[0].digest)

    threads = [threading.Thread(target=ask, name=name) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 2
    assert set(digests) == {verify_bundle(tmp_path / "a", "thing").digest}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_complaint_of_the_builder_reaches_the_caller(tmp_path: Path) -> None:
    """An error of the builder is not taken for a lost race."""

    def build(directory: Path) -> None:
        raise ConfigError("no such column")

    with pytest.raises(ConfigError, match="no such column"):
        open_or_build(tmp_path / "a", "thing", build, on_broken=pytest.fail)
    assert not list(tmp_path.iterdir())
