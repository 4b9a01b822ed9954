"""`LocalPlace`: files and bundles in a directory, which survive a power cut. See `place.py` for the promises."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from corelane.core.errors import ConfigError, DataError
from corelane.store.bundle import MANIFEST, bundle_kind, manifest_files, write_bundle
from corelane.store.durable import discard, remove_temporaries, sync_directory, write_new
from corelane.store.places.place import absent


class LocalPlace:
    """A directory. Its file system must have hard links."""

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
        remove_temporaries(target.parent)
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
