"""A place for small files and bundles that several processes write: a directory here, or any URL that fsspec opens.

Two promises make it fit for a registry. A file or bundle appears under its name whole or not at all, and `create` and
`put` never replace what is there: of several writers of one name one is told that it was first. What the names mean is
for others to know. Paths are relative to the place, with `/`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from corelane.core.errors import BundleError, ConfigError, DataError
from corelane.store.bundle import MANIFEST, bundle_kind, manifest_files, write_bundle
from corelane.store.durable import discard, remove_temporaries, sync_directory, write_new

_FILE = "file://"


class Place(Protocol):
    """Files and bundles by path. Raises `DataError` for a file that is too large, and what its storage raises."""

    url: str

    def names(self, folder: str = "") -> list[str]:
        """What lies directly in `folder`, sorted, without unfinished work; nothing where there is no such folder."""
        ...

    def read(self, path: str, max_bytes: int) -> bytes | None:
        """The content of a file of at most `max_bytes`; None where there is none."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Make a file, unless there is one; whether this call did."""
        ...

    def put(self, path: str, bundle: Path) -> bool:
        """Copy the bundle at `bundle` here, unless there is something; whether this call did."""
        ...

    def fetch(self, path: str, target: Path) -> Path:
        """The bundle as a local directory: `target`, unless it is local where it lies. Not verified.

        Raises `BundleError` when there is none.
        """
        ...

    def remove(self, path: str) -> None:
        """Remove a file or bundle, so that nobody finds half of it; nothing there is fine."""
        ...


def place_of(url: str | Path, options: Mapping[str, Any] | None = None) -> Place:
    """The place at a directory or URL; `options` are the driver's. `file://` is a directory.

    Raises `ConfigError` for a URL that cannot be, `MissingDependencyError` without the package that speaks it.
    """
    text = str(url)
    if is_url(text) and not text.startswith(_FILE):
        from corelane.store.remote_place import RemotePlace  # noqa: PLC0415 - fsspec only where it is used

        return RemotePlace(text, options)
    return LocalPlace(Path(text.removeprefix(_FILE)))


def is_url(text: str) -> bool:
    """Whether `text` is a URL and not a local path."""
    return "://" in text


class LocalPlace:
    """A directory. What was made survives a power cut."""

    def __init__(self, directory: Path) -> None:
        self.url = str(directory)
        self._directory = directory

    def names(self, folder: str = "") -> list[str]:
        """See `Place.names`."""
        try:
            names = [path.name for path in (self._directory / folder).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in names if not name.startswith("."))

    def read(self, path: str, max_bytes: int) -> bytes | None:
        """See `Place.read`."""
        try:
            with (self._directory / path).open("rb") as file:
                data = file.read(max_bytes + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if len(data) > max_bytes:
            raise DataError(f"{self._directory / path} must be at most {max_bytes} bytes, got more; remove it")
        return data

    def create(self, path: str, data: bytes) -> bool:
        """See `Place.create`. Raises `ConfigError` where the directory cannot be written, `DiskFullError`."""
        target = self._directory / path
        remove_temporaries(target.parent)
        return write_new(target, data)

    def put(self, path: str, bundle: Path) -> bool:
        """See `Place.put`. Raises as `create`."""
        target = self._directory / path
        manifest = (bundle / MANIFEST).read_bytes()
        try:
            with write_bundle(target, bundle_kind(manifest)) as staged:
                for name in manifest_files(manifest):
                    (staged / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(bundle / name, staged / name)
        except ConfigError:
            if os.path.lexists(target):
                return False
            raise
        return True

    def fetch(self, path: str, target: Path) -> Path:  # noqa: ARG002 - it need not be copied
        """See `Place.fetch`."""
        if not (self._directory / path / MANIFEST).is_file():
            raise absent(f"{self._directory / path}")
        return self._directory / path

    def remove(self, path: str) -> None:
        """See `Place.remove`."""
        target = self._directory / path
        with suppress(FileNotFoundError):
            if target.is_dir():
                discard(target)
            else:
                target.unlink()
                sync_directory(target.parent)


def absent(name: str) -> BundleError:
    """For a bundle that is not at `name`."""
    return BundleError(f"{name} must be a package, got nothing whole there; see `corelane models show`")
