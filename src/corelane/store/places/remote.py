"""`RemotePlace`: files and bundles in remote storage, any URL that fsspec opens. See `place.py` for the promises.

Two writers of one bundle would mix their files, so the first claims it; the manifest, put last, is what makes it one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corelane.store.bundle import MANIFEST, MAX_MANIFEST_BYTES, manifest_files
from corelane.store.durable import temporary_directory
from corelane.store.places.place import absent
from corelane.store.remote import RemoteStore

CLAIM = "claim"


class RemotePlace:
    """A folder of an object store. Single objects appear whole; a bundle's manifest is its last."""

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        self.url = url.rstrip("/")
        self._options = dict(options or {})
        self._store = RemoteStore(self.url, self._options)

    def names(self, folder: str = "") -> list[str]:
        """See `Place.names`."""
        store = RemoteStore(f"{self.url}/{folder}".rstrip("/"), self._options)
        return sorted(name for name in store.names() if name and not name.startswith("."))

    def read(self, path: str, max_bytes: int) -> bytes | None:
        """See `Place.read`."""
        return self._store.read(f"{self.url}/{path}", max_bytes)

    def create(self, path: str, data: bytes) -> bool:
        """See `Place.create`."""
        return self._store.create(f"{self.url}/{path}", data)

    def put(self, path: str, bundle: Path) -> bool:
        """See `Place.put`. A killed writer leaves a claim without a manifest: no bundle, and its name is lost."""
        if not self.create(f"{path}/{CLAIM}", b"{}"):
            return False
        for name in manifest_files((bundle / MANIFEST).read_bytes()):
            self._store.put(bundle / name, f"{self.url}/{path}/{name}")
        self._store.put(bundle / MANIFEST, f"{self.url}/{path}/{MANIFEST}")
        return True

    def fetch(self, path: str, target: Path) -> Path:
        """See `Place.fetch`. A directory that is there is what somebody fetched before."""
        if target.is_dir():
            return target
        manifest = self.read(f"{path}/{MANIFEST}", MAX_MANIFEST_BYTES)
        if manifest is None:
            raise absent(f"{self.url}/{path}")
        with temporary_directory(target) as aside:
            for name in manifest_files(manifest):
                self._store.copy(f"{self.url}/{path}/{name}", aside / name)
            (aside / MANIFEST).write_bytes(manifest)
            try:
                aside.rename(target)
            except OSError:
                if not target.is_dir():  # else another process was faster, with the same files
                    raise
        return target

    def remove(self, path: str) -> None:
        """See `Place.remove`."""
        self._store.remove(f"{self.url}/{path}/{MANIFEST}")
        self._store.remove(f"{self.url}/{path}")
