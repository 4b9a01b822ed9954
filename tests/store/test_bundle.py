"""Bundles: whole or not there, immutable, and every changed byte found."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from corelane.core.errors import BundleError, ConfigError, DiskFullError
from corelane.store.bundle import FileEntry, verify_bundle, write_bundle


def _write(target: Path) -> Path:
    with write_bundle(target, "checkpoint") as directory:
        (directory / "weights").write_bytes(bytes(range(256)) * 40)
        (directory / "graphs").mkdir()
        (directory / "graphs" / "fp32").write_bytes(b"graph")
    return target


def test_round_trip_gives_digest_and_files(tmp_path: Path) -> None:
    """What was written verifies; equal contents have equal digests; the manifest is the format documented."""
    first, second = (
        verify_bundle(_write(tmp_path / "a"), "checkpoint"),
        verify_bundle(_write(tmp_path / "b"), "checkpoint"),
    )
    assert first.digest == second.digest
    assert {name: entry.size for name, entry in first.files.items()} == {"weights": 10240, "graphs/fp32": 5}
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_bytes())
    assert (manifest["format_version"], manifest["kind"]) == (1, "checkpoint")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_another_content_has_another_digest(tmp_path: Path) -> None:
    """The digest follows the content."""
    with write_bundle(tmp_path / "b", "checkpoint") as directory:
        (directory / "weights").write_bytes(b"other")
    assert (
        verify_bundle(_write(tmp_path / "a"), "checkpoint").digest != verify_bundle(tmp_path / "b", "checkpoint").digest
    )


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    """One changed bit at any place, of a file or of the manifest itself, makes verification fail."""
    bundle = _write(tmp_path / "a")
    for name in ("manifest.json", "graphs/fp32"):
        path = bundle / name
        whole = path.read_bytes()
        for index in range(len(whole)):
            path.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
            with pytest.raises(BundleError):
                verify_bundle(bundle, "checkpoint")
        path.write_bytes(whole)
    verify_bundle(bundle, "checkpoint")


@pytest.mark.parametrize("length", [0, 1, 5000, 10239])
def test_a_file_cut_short_is_named(tmp_path: Path, length: int) -> None:
    """A shorter file is found and named."""
    weights = _write(tmp_path / "a") / "weights"
    weights.write_bytes(weights.read_bytes()[:length])
    with pytest.raises(BundleError, match=r"weights must have 10240 bytes"):
        verify_bundle(tmp_path / "a", "checkpoint")


def test_missing_extra_and_linked_files_are_named(tmp_path: Path) -> None:
    """A file too few, a file too many and a link in place of a file each fail with the file's name."""
    bundle = _write(tmp_path / "a")
    (bundle / "stray").write_bytes(b"")
    with pytest.raises(BundleError, match="stray must not be in this bundle"):
        verify_bundle(bundle, "checkpoint")
    (bundle / "stray").unlink()
    (bundle / "weights").rename(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="weights must exist"):
        verify_bundle(bundle, "checkpoint")
    (bundle / "weights").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="weights must be a regular file, got a symbolic link"):
        verify_bundle(bundle, "checkpoint")


def test_a_directory_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    """Without its manifest, at another path, or as another kind, a bundle is refused in words."""
    bundle = _write(tmp_path / "a")
    with pytest.raises(BundleError, match="kind 'package', got 'checkpoint'"):
        verify_bundle(bundle, "package")
    (bundle / "manifest.json").unlink()
    with pytest.raises(BundleError, match="not whole"):
        verify_bundle(bundle, "checkpoint")
    with pytest.raises(BundleError, match="nothing there"):
        verify_bundle(tmp_path / "none", "checkpoint")


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../b", ""])
def test_a_manifest_cannot_point_outside(tmp_path: Path, name: str) -> None:
    """A forged manifest that names files elsewhere is refused before they are looked at."""
    bundle = _write(tmp_path / "a")
    content = json.loads((bundle / "manifest.json").read_bytes())
    content["files"][name] = {"sha256": "0" * 64, "size": 1}
    (bundle / "manifest.json").write_bytes(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
    with pytest.raises(BundleError, match=r"manifest\.json"):
        verify_bundle(bundle, "checkpoint")


def test_an_unknown_format_version_is_refused(tmp_path: Path) -> None:
    """A bundle of a later format is not guessed at."""
    bundle = _write(tmp_path / "a")
    content = json.loads((bundle / "manifest.json").read_bytes())
    content["format_version"] = 2
    (bundle / "manifest.json").write_bytes(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())
    with pytest.raises(BundleError, match="format_version 1, got 2"):
        verify_bundle(bundle, "checkpoint")


def test_a_bundle_is_never_overwritten(tmp_path: Path) -> None:
    """Writing over an existing bundle is refused, before or after the work, and leaves it as it was."""
    digest = verify_bundle(_write(tmp_path / "a"), "checkpoint").digest
    with pytest.raises(ConfigError, match="must not exist yet"):
        _write(tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "aside")

    def be_overtaken() -> None:
        with write_bundle(tmp_path / "a", "checkpoint") as directory:
            (directory / "late").write_bytes(b"")
            shutil.move(tmp_path / "aside", tmp_path / "a")

    with pytest.raises(ConfigError, match="must not exist yet"):
        be_overtaken()
    assert verify_bundle(tmp_path / "a", "checkpoint").digest == digest
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    """When the writer fails there is neither a bundle nor a temporary directory."""

    def fail() -> None:
        with write_bundle(tmp_path / "a", "checkpoint") as directory:
            (directory / "half").write_bytes(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_and_touches_nothing(tmp_path: Path) -> None:
    """The system's own "no space left" becomes `DiskFullError`; the older bundle beside it stays whole."""
    _write(tmp_path / "old")

    def fill() -> None:
        with write_bundle(tmp_path / "new", "checkpoint") as directory:
            (directory / "half").write_bytes(b"half")
            Path("/dev/full").write_bytes(b"x")

    with pytest.raises(DiskFullError, match="must have room"):
        fill()
    verify_bundle(tmp_path / "old", "checkpoint")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_write_that_fell_short_is_an_error(tmp_path: Path) -> None:
    """A file that is shorter than what was written into it is found at once: the bundle does not appear."""
    known = {"weights": FileEntry(hashlib.sha256(b"whole").hexdigest(), 5)}

    def fall_short() -> None:
        with write_bundle(tmp_path / "a", "checkpoint", known=known) as directory:
            (directory / "weights").write_bytes(b"who")

    with pytest.raises(OSError, match=r"must keep the 5 bytes that were written, got 3.*weights"):
        fall_short()
    assert not list(tmp_path.iterdir())


def test_a_parent_that_is_a_file_is_a_config_error(tmp_path: Path) -> None:
    """A place that cannot hold a bundle is the caller's mistake, said in words."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="must be a directory that can be written"):
        _write(tmp_path / "file" / "a")
