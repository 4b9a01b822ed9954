"""Bundles: directories whose `manifest.json`, written last, holds the size and SHA-256 of every other file.

Checkpoints, packages and prepared data are bundles. A bundle appears under its name whole or not at all, never changes
afterwards, and is verified before anything in it is used. This module does not know what the files mean. The manifest
is canonical JSON (sorted keys, no spaces): a single changed byte anywhere in the directory is found.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from corelane.core.errors import BundleError, ConfigError
from corelane.store.durable import (
    full_disk_reported,
    remove_temporaries,
    sync_directory,
    sync_file,
    temporary_directory,
    write_atomic,
)

__all__ = ["Bundle", "FileEntry", "remove_temporaries", "verify_bundle", "write_atomic", "write_bundle"]

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_DAMAGED = frozenset(
    (errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA, errno.EREMOTEIO, errno.ESTALE, errno.ENOENT, errno.ENOTDIR)
)
"""What a system says of a file that its disk, or its server, no longer has whole."""

MAX_MANIFEST_BYTES = 16 << 20  # about 100,000 files; a larger one is not ours


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What the manifest promises of one file: its SHA-256 (hex) and its size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle: where it lies, its digest (SHA-256 of the manifest's bytes) and its files by relative name."""

    path: Path
    digest: str
    files: Mapping[str, FileEntry]

    def read(self, name: str) -> bytes:
        """The content of the file `name`, the bytes that were verified.

        Raises `BundleError` when it is another by now: what is verified and what is used must be one.
        """
        content = (self.path / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != self.files[name].sha256:
            raise BundleError(
                f"{self.path / name} must stay as it was when it was verified, got other bytes; try again"
            )
        return content


@contextmanager
def write_bundle(
    target: Path,
    kind: str,
    *,
    known: Mapping[str, FileEntry] = MappingProxyType({}),
    needed_bytes: int | None = None,
    guard: Callable[[], None] = lambda: None,
) -> Iterator[Path]:
    """Yield a temporary directory beside `target`; what is written into it becomes the bundle `target`.

    `known` may hold what was written of files by name; they are not read for their SHA-256 again, but a file of another
    size than was written is an error: what a disk kept only a part of must not be published.
    `needed_bytes` is for the message on a full disk, where the caller knows how much it will write. `guard` is called
    last before the bundle appears, and what it raises prevents that.

    On a clean exit every file is flushed to the device, the manifest is written last, and the directory is renamed. On
    an error, a failed flush included, the temporary directory is removed and nothing that existed before is touched.

    Raises `ConfigError` when `target` exists (bundles are immutable), also when it appeared meanwhile, or when its
    parent cannot be written; `DiskFullError` with the bytes needed and free when there is no room left; another
    `OSError` with its path.
    """
    if os.path.lexists(target):
        raise _existing(target)
    with full_disk_reported(target, needed_bytes), temporary_directory(target) as temporary:
        yield temporary
        _seal(temporary, kind, known)
        guard()
        _publish(temporary, target)


def verify_bundle(path: Path, kind: str, *, believed: Callable[[str], bool] = lambda _: False) -> Bundle:
    """Read the bundle at `path` and check every file's size and SHA-256; no file may be missing and none extra.

    Files whose names are `believed` are not hashed: for who knows that nothing touched them since they were.

    Raises `BundleError` naming the broken file and what to do, also where the disk cannot read it or it is removed
    meanwhile; another `OSError` (no right to read, too many open files) says nothing of the bundle, and is raised.
    """
    try:
        return _verify(path, kind, believed)
    except OSError as error:
        if error.errno not in _DAMAGED:
            raise
        raise BundleError(
            f"{error.filename or path} must be readable, got {error.strerror!r}; {_advice(kind)}", detail=str(error)
        ) from error


def _verify(path: Path, kind: str, believed: Callable[[str], bool]) -> Bundle:
    if not path.is_dir():
        raise BundleError(f"{path} must be a bundle directory, got {_what_is(path)}; check the path")
    manifest = _read_manifest(path, kind)
    files = manifest_files(manifest)
    found = _list_files(path)
    for name in sorted(files.keys() - found):
        raise BundleError(f"{path / name} must exist, got nothing; {_advice(kind)}")
    for name in sorted(found - files.keys()):
        raise BundleError(f"{path / name} must not be in this bundle, it is not in its manifest; {_advice(kind)}")
    for name, entry in files.items():
        _check_size(path / name, entry, kind)
    for name, entry in files.items():
        if not believed(name) and file_digest(path / name) != entry.sha256:
            raise BundleError(
                f"{path / name} must have the SHA-256 of its manifest, got altered bytes; {_advice(kind)}"
            )
    return Bundle(path, hashlib.sha256(manifest).hexdigest(), MappingProxyType(files))


def make_manifest(kind: str, files: Mapping[str, Path], known: Mapping[str, FileEntry] = MappingProxyType({})) -> bytes:
    """The manifest of a bundle of `files`, by their names in it; those in `known` are not read for their SHA-256.

    Raises `OSError` naming a file whose size is not the known one.
    """
    entries = {name: asdict(_entry_of(path, known.get(name))) for name, path in files.items()}
    return _canonical({"format_version": FORMAT_VERSION, "kind": kind, "files": entries})


def manifest_files(manifest: bytes) -> dict[str, FileEntry]:
    """The files that the bytes of a manifest promise, by name; none of them lies outside the bundle.

    Raises `BundleError` when they are not a manifest as this module writes it.
    """
    try:
        content = json.loads(manifest)
        is_whole = _canonical(content) == manifest and _is_manifest(content)
    except (ValueError, RecursionError):
        is_whole = False
    if not is_whole:
        raise BundleError("a manifest must be as it was written, got altered bytes")
    return {name: FileEntry(**entry) for name, entry in content["files"].items()}


def bundle_kind(manifest: bytes) -> str:
    """The kind of bundle that the bytes of a manifest describe. Raises `BundleError` as `manifest_files` does."""
    manifest_files(manifest)
    return str(json.loads(manifest)["kind"])


# --- writing ----------------------------------------------------------------------------------------------------------


def _entry_of(path: Path, known: FileEntry | None) -> FileEntry:
    size = path.stat().st_size
    if known is not None and known.size != size:
        raise OSError(
            errno.EIO, f"the disk must keep the {known.size:,} bytes that were written, got {size:,}", str(path)
        )
    return known or FileEntry(file_digest(path), size)


def _seal(directory: Path, kind: str, known: Mapping[str, FileEntry]) -> None:
    files = {name: directory / name for name in sorted(_list_files(directory))}
    for path in files.values():
        sync_file(path)
    content = make_manifest(kind, files, known)
    for folder in sorted((path for path in directory.rglob("*") if path.is_dir()), reverse=True):
        sync_directory(folder)
    with (directory / MANIFEST).open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(directory)


def _publish(temporary: Path, target: Path) -> None:
    try:
        temporary.rename(target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise _existing(target) from error
        raise
    try:
        sync_directory(target.parent)
    except OSError:
        with suppress(OSError):
            target.rename(temporary)  # to be removed: whoever is told that it failed must not find it
        raise


def _existing(target: Path) -> ConfigError:
    return ConfigError(f"{target} must not exist yet, bundles are immutable; choose another name or remove it")


# --- reading ----------------------------------------------------------------------------------------------------------


def _read_manifest(path: Path, kind: str) -> bytes:
    manifest = path / MANIFEST
    if not manifest.is_file():
        raise BundleError(f"{manifest} must exist, got nothing: the bundle is not whole; {_advice(kind)}")
    if manifest.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(f"{manifest} must be at most {MAX_MANIFEST_BYTES} bytes; {_advice(kind)}")
    data = manifest.read_bytes()
    try:
        manifest_files(data)
    except BundleError as error:
        raise BundleError(f"{manifest}: {error.message}; {_advice(kind)}") from error
    content = json.loads(data)
    if content["format_version"] != FORMAT_VERSION:
        raise BundleError(
            f"{manifest} must have format_version {FORMAT_VERSION}, got {content['format_version']!r}; "
            "use the release of Corelane that wrote it"
        )
    if content["kind"] != kind:
        raise BundleError(f"{path} must be a bundle of kind {kind!r}, got {content['kind']!r}; check the path")
    return data


def _is_manifest(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and content.keys() == {"format_version", "kind", "files"}
        and isinstance(content["files"], dict)
        and all(_is_inside(name) and _is_entry(entry) for name, entry in content["files"].items())
    )


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() == {"sha256", "size"}
        and isinstance(entry["sha256"], str)
        and type(entry["size"]) is int
    )


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and ".." not in parts and not name.startswith("/")


def _list_files(directory: Path) -> set[str]:
    """Names of everything below `directory` that is not a directory, but the manifest. A link counts as a file."""
    names: set[str] = set()
    for root, folders, files in os.walk(directory, onerror=_raise):
        base = Path(root)
        links = [folder for folder in folders if (base / folder).is_symlink()]
        names.update((base / name).relative_to(directory).as_posix() for name in [*files, *links])
    return names - {MANIFEST}


def _raise(error: OSError) -> None:
    """A folder that cannot be listed is not an empty one."""
    raise error


def _check_size(path: Path, entry: FileEntry, kind: str) -> None:
    if path.is_symlink() or not path.is_file():
        raise BundleError(f"{path} must be a regular file, got {_what_is(path)}; {_advice(kind)}")
    size = path.stat().st_size
    if size != entry.size:
        raise BundleError(f"{path} must have {entry.size} bytes, got {size}; {_advice(kind)}")


def _what_is(path: Path) -> str:
    if path.is_symlink():
        return "a symbolic link"
    if path.is_dir():
        return "a directory"
    return "a file" if path.exists() else "nothing there"


def _advice(kind: str) -> str:
    return f"restore this {kind} from a copy, or remove it and make it again"


def file_digest(path: Path) -> str:
    """The SHA-256 (hex) of the file at `path`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
