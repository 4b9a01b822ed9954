"""`SharedTier` (L3): bundles in storage that machines share, any URL that fsspec opens. It is never needed.

    <url>/<kind>/<name>/<file>      as on local disk; manifest.json is written last, so an entry is whole or not there

Raw data, packages and logs are archived here, and raw data is looked for here before it is downloaded. A store that
cannot be reached, or is too slow, is a miss: it is told once, and this tier is off from then on, so that its owner pays
for it once. Calls run in threads of their own, since a hanging store cannot be interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any

from corelane.core.errors import BundleError, ConfigError, CorelaneError, DataError
from corelane.store.bundle import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    bundle_kind,
    make_manifest,
    manifest_files,
    verify_bundle,
    write_bundle,
)
from corelane.store.durable import temporary_directory
from corelane.store.remote import RemoteStore
from corelane.store.tiers.arrays import ARRAYS_KIND, load_arrays, write_arrays
from corelane.store.tiers.patience import TIMEOUT_S, Patience
from corelane.store.tiers.room import KINDS, split_key
from corelane.store.tiers.shared_manifest import is_of_another_release, is_ours
from corelane.store.tiers.tier import Arrays, Tell, TierMeter, tell_nobody

FOLDERS = frozenset({*KINDS, "notes", "spools", "packages", "runs", "checkpoints"})
"""The folders of entries. Nothing else below the URL is looked at or removed: others may keep their things there."""


class SharedTier:
    """Owns the entries below `url` and nothing else; unbounded, since storage of this kind has rules of its own.

    `tell` hears once when the store fails. Raises `ConfigError` for a URL that cannot be, `MissingDependencyError`
    without the package that speaks it, and nothing later.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        tell: Tell = tell_nobody,
    ) -> None:
        self.url = url.rstrip("/")
        self.meter = TierMeter()
        self.num_bytes = 0  # put by this process; what others put is not counted
        self._store = RemoteStore(self.url, options or {})
        self._tell = tell
        self._patience = Patience(self.url, timeout_s, tell)

    # --- a mapping of arrays ------------------------------------------------------------------------------------------

    def get(self, key: str) -> Arrays | None:
        """See `CacheTier.get`; the arrays are in memory. None where there is no room for files, which is told."""
        try:
            return self._get(*split_key(key))
        except (OSError, CorelaneError) as error:
            self.meter.count("misses")
            self._tell("cache_not_read", {"url": self.url, "reason": str(error)})
            return None

    def put(self, key: str, arrays: Arrays) -> bool:
        """See `CacheTier.put`; a value that is there stays. False where `get` would give None, which is told."""
        try:
            with TemporaryDirectory(prefix="corelane-shared-") as folder:
                with write_bundle(Path(folder) / "entry", ARRAYS_KIND) as directory:
                    write_arrays(directory, arrays)
                return self.keep(*split_key(key), Path(folder) / "entry")
        except (OSError, CorelaneError) as error:
            self._tell("cache_not_kept", {"url": self.url, "reason": str(error)})
            return False

    def _get(self, folder: str, name: str) -> Arrays | None:
        with TemporaryDirectory(prefix="corelane-shared-") as temporary:
            target = Path(temporary) / "entry"
            manifest = self._fetch(folder, name, ARRAYS_KIND, target)
            if manifest is None:
                return None
            try:
                return load_arrays(target)
            except BundleError as error:  # whole, but written by somebody else
                self._discard_broken(self._url(folder, name), manifest, error)
                return None

    def remove(self, key: str) -> None:
        """See `CacheTier.remove`."""
        url = self._url(*split_key(key))
        self._patience.ask(lambda: self._remove(url))

    def close(self) -> None:
        """No more calls; one that still runs ends by itself."""
        self._patience.end()

    # --- for who looks after it: what fails is raised here ------------------------------------------------------------

    def entries(self) -> dict[str, int]:
        """The bytes of every entry by name (`<folder>/<name>`): what has a manifest in one of `FOLDERS`.

        Raises as `RemoteStore.list`, but not for no entries.
        """
        sizes: dict[str, int] = {}
        whole: list[str] = []
        for folder in sorted(FOLDERS & self._store.names()):
            for file in self._store.list_below(f"{self.url}/{folder}"):
                entry, _, rest = file.name.partition("/")
                name = f"{folder}/{entry}"
                sizes[name] = sizes.get(name, 0) + file.size
                if rest == MANIFEST:
                    whole.append(name)
        return {name: sizes[name] for name in whole}

    def check(self, name: str) -> BundleError | None:
        """What is wrong with the entry `name`; None when every byte of it is as it was put.

        None too for what cannot be told: entries of other releases, and those that are replaced meanwhile.
        """
        url = f"{self.url}/{name}"
        try:
            manifest = self._read_manifest(url)
        except DataError as error:  # far larger than any of ours
            return BundleError(error.message)
        if manifest is None or is_of_another_release(manifest):
            return None
        if not is_ours(manifest):
            return BundleError(f"{url}/{MANIFEST} must be a manifest of Corelane, got something else; it is left alone")
        try:
            files = manifest_files(manifest)
            with TemporaryDirectory(prefix="corelane-shared-") as folder:
                self._copy_all(url, list(files), Path(folder))
                (Path(folder) / MANIFEST).write_bytes(manifest)
                verify_bundle(Path(folder), bundle_kind(manifest))
        except BundleError as error:
            return error if self._read_manifest(url) == manifest else None
        return None

    def discard(self, name: str) -> bool:
        """Remove the entry `name`, unless its manifest is not one of Corelane's; whether it was removed."""
        url = f"{self.url}/{name}"
        with suppress(DataError):  # a manifest that is far larger than any of ours
            manifest = self._read_manifest(url)
            if manifest is not None and is_ours(manifest):
                self._remove(url)
                return True
        return False

    # --- entries of files ---------------------------------------------------------------------------------------------

    def fetch(self, folder: str, name: str, kind: str, target: Path) -> bool:
        """See `Archive.fetch`. A broken entry is a miss, and removed; one of another release is a miss, and stays."""
        return self._fetch(folder, name, kind, target) is not None

    def keep(self, folder: str, name: str, bundle: Path) -> bool:
        """See `Archive.keep`."""
        manifest = (bundle / MANIFEST).read_bytes()
        return self._keep(folder, name, manifest, {file: bundle / file for file in manifest_files(manifest)})

    def keep_files(self, folder: str, name: str, kind: str, files: Mapping[str, Path]) -> bool:
        """See `Archive.keep_files`."""
        return self._keep(folder, name, make_manifest(kind, files), files)

    def _keep(self, folder: str, name: str, manifest: bytes, files: Mapping[str, Path]) -> bool:
        url = self._url(folder, name)
        num_bytes = sum(file.size for file in manifest_files(manifest).values())

        def put() -> bool:
            there = self._read_manifest(url)
            if there is not None and is_of_another_release(there):
                return False
            if there == manifest:
                return True
            if (
                there is not None
            ):  # who reads meanwhile must meet no entry, and not this one's files under that manifest
                self._store.remove(f"{url}/{MANIFEST}")
            for file, path in files.items():
                self._patience.check()
                self._store.put(path, f"{url}/{file}")
            with NamedTemporaryFile() as last:
                last.write(manifest)
                last.flush()
                self._store.put(Path(last.name), f"{url}/{MANIFEST}")
            self.num_bytes += num_bytes
            return True

        return self._patience.ask(put, num_bytes) is True

    def _fetch(self, folder: str, name: str, kind: str, target: Path) -> bytes | None:
        """The manifest of the entry whose files lie in `target` now, or None."""
        url = self._url(folder, name)
        manifest = self._patience.ask(lambda: self._read_manifest(url))
        if manifest is not None and (
            is_of_another_release(manifest) or not self._fetch_files(url, kind, manifest, target)
        ):
            manifest = None
        self.meter.count("misses" if manifest is None else "hits")
        return manifest

    def _fetch_files(self, url: str, kind: str, manifest: bytes, target: Path) -> bool:
        try:
            files = manifest_files(manifest)
            num_bytes = sum(file.size for file in files.values())
            # A call that was given up may still write: into a directory of its own.
            with temporary_directory(target) as aside:
                if self._patience.ask(lambda: self._copy_all(url, list(files), aside), num_bytes) is None:
                    return False
                (aside / MANIFEST).write_bytes(manifest)
                verify_bundle(aside, kind)
                for name in files:
                    (target / name).parent.mkdir(parents=True, exist_ok=True)
                    (aside / name).rename(target / name)
        except BundleError as error:
            self._discard_broken(url, manifest, error)
            return False
        return True

    def _discard_broken(self, url: str, manifest: bytes, error: BundleError) -> None:
        """Count, tell and remove a broken entry. One that is replaced while it is read is a miss and no more."""
        is_still_there = self._patience.ask(lambda: self._read_manifest(url) == manifest)
        if is_still_there is False:
            return
        self.meter.count("broken")
        self._tell("cache_entry_broken", {"reason": error.message, "url": url})
        self._patience.ask(lambda: self._remove(url))

    def _copy_all(self, url: str, names: list[str], target: Path) -> bool:
        for name in names:
            self._patience.check()
            with suppress(DataError):  # a missing file is found, and named, with the broken ones
                self._store.copy(f"{url}/{name}", target / name)
        return True

    def _remove(self, url: str) -> None:
        self._store.remove(f"{url}/{MANIFEST}")  # first: what is left of it then is no entry
        self._store.remove(url)

    def _read_manifest(self, url: str) -> bytes | None:
        return self._store.read(f"{url}/{MANIFEST}", MAX_MANIFEST_BYTES)

    def _url(self, folder: str, name: str) -> str:
        if folder not in FOLDERS:
            raise ConfigError(f"a shared entry must be of a kind in {', '.join(sorted(FOLDERS))}, got {folder!r}")
        return f"{self.url}/{folder}/{name}"
