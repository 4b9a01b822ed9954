"""Seals: files that nothing has touched since they were hashed are not hashed again, and all others are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from corelane.core.errors import BundleError
from corelane.store import bundle as bundles
from corelane.store.bundle import Bundle, FileEntry, write_bundle
from corelane.store.seal import LIFETIME_S, SEALED_BYTES, file_system_time, is_settled, seal_written, verify_sealed

NOW_S = 1_700_000_000.0


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read to be hashed."""
    names: list[str] = []
    original = bundles.file_digest

    def noted(path: Path) -> str:
        names.append(path.name)
        return original(path)

    monkeypatch.setattr(bundles, "file_digest", noted)
    return names


@pytest.fixture
def sealed(tmp_path: Path, hashed: list[str]) -> Path:
    """A bundle of two files that was sealed when it was old enough."""
    path = tmp_path / "bundle"
    with write_bundle(path, "thing") as directory:
        (directory / "large").write_bytes(bytes(SEALED_BYTES))
        (directory / "small").write_bytes(b"small")
    _wait_a_tick(path / "small")
    _verify(path)
    hashed.clear()
    return path


def _wait_a_tick(file: Path) -> None:
    """Let the file system's clock move on, as it has long done when a second run starts."""
    status = file.stat()
    stamp = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
    while not is_settled(stamp, file_system_time(file.parent.parent)):
        os.sched_yield()


def _verify(path: Path, now_s: float = NOW_S) -> Bundle:
    return verify_sealed(path, "thing", path.parent / "seals" / "thing.json", now_s=now_s)


def test_untouched_files_are_not_hashed_again(sealed: Path, hashed: list[str]) -> None:
    """The second look reads the manifest and asks for the files' stamps, no more."""
    first = _verify(sealed)
    assert hashed == []
    assert set(first.files) == {"large", "small"}


@pytest.mark.parametrize("touch", ["flip", "flip_and_restore_times", "replace", "copy"])
def test_whatever_touched_a_file_it_is_hashed(sealed: Path, hashed: list[str], touch: str) -> None:
    """Writing, restoring the time of change, replacing by another file, and copying all leave other stamps."""
    file = sealed / "large"
    status = file.stat()
    if touch == "copy":
        shutil.copytree(sealed, sealed.with_name("copy"))
        shutil.rmtree(sealed)
        sealed.with_name("copy").rename(sealed)
        _verify(sealed)
        assert sorted(hashed) == ["large", "small"]
        return
    content = bytearray(file.read_bytes())
    content[1000] = 1
    if touch == "replace":
        file.unlink()
    file.write_bytes(content)
    if touch == "flip_and_restore_times":
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(BundleError, match="large must have the SHA-256"):
        _verify(sealed)


def test_a_bundle_changed_as_a_whole_is_not_believed(sealed: Path) -> None:
    """A manifest that was written anew for broken files does not go with the seal of the old one."""
    manifest = sealed / "manifest.json"
    wrong = manifest.read_bytes().replace(b'"small":{"sha256":"', b'"small":{"sha256":"0')
    manifest.write_bytes(wrong)
    with pytest.raises(BundleError):
        _verify(sealed)


def test_files_changed_just_before_are_hashed_the_next_time_too(tmp_path: Path, hashed: list[str]) -> None:
    """Within a tick of the file system's clock a file can change twice and look the same: such a stamp says nothing."""
    at_ns = 1_700_000_000_500_000_000
    assert not is_settled((1, at_ns, at_ns - 1_000_000, 1), at_ns)
    assert is_settled((1, at_ns, at_ns - 100_000_000, 1), at_ns)
    assert not is_settled((1, at_ns, 1_699_999_999_000_000_000, 1), at_ns), "a file system that counts in seconds"


def test_after_a_week_everything_is_hashed(sealed: Path, hashed: list[str]) -> None:
    """What rots on the disk without a trace is found within the lifetime of a seal; then it is renewed."""
    _verify(sealed, NOW_S + LIFETIME_S + 1)
    assert sorted(hashed) == ["large", "small"]
    hashed.clear()
    _verify(sealed, NOW_S + LIFETIME_S + 2)
    assert hashed == []


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"version": 1, "digest": 3, "hashed_s": null, "stamps": []}'])
def test_a_broken_seal_is_none(sealed: Path, hashed: list[str], content: bytes) -> None:
    """What cannot be read costs the hashing, and is written again."""
    (sealed.parent / "seals" / "thing.json").write_bytes(content)
    _verify(sealed)
    assert sorted(hashed) == ["large", "small"]
    hashed.clear()
    _verify(sealed)
    assert hashed == []


def test_what_was_just_written_is_sealed_without_reading(tmp_path: Path, hashed: list[str]) -> None:
    """The digests known from writing hold; files whose stamps are too young are hashed at the next start, once."""
    path = tmp_path / "bundle"
    with write_bundle(path, "thing", known={"large": FileEntry("0" * 64, SEALED_BYTES)}) as directory:
        (directory / "large").write_bytes(bytes(SEALED_BYTES))
        _wait_a_tick(directory / "large")
        (directory / "small").write_bytes(b"small")
    hashed.clear()
    bundle = bundles.verify_bundle(path, "thing", believed=lambda _: True)
    seal_written(bundle, tmp_path / "seals" / "thing.json", now_s=NOW_S)
    _verify(path)
    assert "large" not in hashed
