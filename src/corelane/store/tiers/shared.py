"""`SharedTier` (L3): bundles in storage that machines share, any URL that fsspec opens. It is never needed.

    <url>/<kind>/<name>/<file>      as on local disk; manifest.json is written last, so an entry is whole or not there

Raw data, packages and logs are archived here, and raw data is looked for here before it is downloaded. A store that
cannot be reached, or is too slow, is a miss: it is told once, and this tier is off from then on, so that its owner pays
for it once. Calls run in threads of their own, since a hanging store cannot be interrupted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any, TypeVar

from corelane.core.errors import BundleError, ConfigError, DataError
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
from corelane.store.tiers.room import KINDS, split_key
from corelane.store.tiers.shared_manifest import is_ours
from corelane.store.tiers.tier import Arrays, Tell, TierMeter, tell_nobody

TIMEOUT_S = 30.0  # for a call's first byte; a store that takes longer would hold up every run
SLOWEST_BYTES_PER_S = 1 << 20  # below that, fetching a thing again from where it came is faster

FOLDERS = frozenset({*KINDS, "notes", "spools", "packages", "runs"})
"""The folders of entries. Nothing else below the URL is looked at or removed: others may keep their things there."""

ResultT = TypeVar("ResultT")


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
        self._timeout_s = timeout_s
        self._tell = tell
        self._is_off = False

    # --- a mapping of arrays ------------------------------------------------------------------------------------------

    def get(self, key: str) -> Arrays | None:
        """See `CacheTier.get`; the arrays are in memory."""
        with TemporaryDirectory(prefix="corelane-shared-") as folder:
            target = Path(folder) / "entry"
            if not self.fetch(*split_key(key), ARRAYS_KIND, target):
                return None
            try:
                return load_arrays(target)
            except BundleError as error:  # whole, but written by somebody else
                self._discard_broken(self._url(*split_key(key)), error)
                return None

    def put(self, key: str, arrays: Arrays) -> bool:
        """See `CacheTier.put`; a value that is there stays."""
        with TemporaryDirectory(prefix="corelane-shared-") as folder:
            with write_bundle(Path(folder) / "entry", ARRAYS_KIND) as directory:
                write_arrays(directory, arrays)
            return self.keep(*split_key(key), Path(folder) / "entry")

    def remove(self, key: str) -> None:
        """See `CacheTier.remove`."""
        url = self._url(*split_key(key))
        self._ask(lambda: self._remove(url))

    def close(self) -> None:
        """No more calls; one that still runs ends by itself."""
        self._is_off = True

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
        """What is wrong with the entry `name`; None when every byte of it is as it was put."""
        url = f"{self.url}/{name}"
        manifest = self._read_manifest(url)
        if manifest is None:
            return None  # it has gone since it was listed
        if not is_ours(manifest):
            return BundleError(f"{url}/{MANIFEST} must be a manifest of Corelane, got something else; it is left alone")
        try:
            files = manifest_files(manifest)
            with TemporaryDirectory(prefix="corelane-shared-") as folder:
                self._copy_all(url, list(files), Path(folder))
                (Path(folder) / MANIFEST).write_bytes(manifest)
                verify_bundle(Path(folder), bundle_kind(manifest))
        except BundleError as error:
            return error
        return None

    def discard(self, name: str) -> bool:
        """Remove the entry `name`, unless its manifest is not one of Corelane's; whether it was removed."""
        url = f"{self.url}/{name}"
        manifest = self._read_manifest(url)
        if manifest is None or not is_ours(manifest):
            return False
        self._remove(url)
        return True

    # --- entries of files ---------------------------------------------------------------------------------------------

    def fetch(self, folder: str, name: str, kind: str, target: Path) -> bool:
        """See `Archive.fetch`. A broken entry is a miss, and removed."""
        url = self._url(folder, name)
        manifest = self._ask(lambda: self._read_manifest(url))
        is_there = manifest is not None and self._fetch_files(url, kind, manifest, target)
        self.meter.count("hits" if is_there else "misses")
        return is_there

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
            if self._read_manifest(url) == manifest:
                return True
            for file, path in files.items():
                self._check_on()
                self._store.put(path, f"{url}/{file}")
            with NamedTemporaryFile() as last:
                last.write(manifest)
                last.flush()
                self._store.put(Path(last.name), f"{url}/{MANIFEST}")
            self.num_bytes += num_bytes
            return True

        return self._ask(put, num_bytes) is not None

    def _fetch_files(self, url: str, kind: str, manifest: bytes, target: Path) -> bool:
        try:
            files = manifest_files(manifest)
            num_bytes = sum(file.size for file in files.values())
            # A call that was given up may still write: into a directory of its own.
            with temporary_directory(target) as aside:
                if self._ask(lambda: self._copy_all(url, list(files), aside), num_bytes) is None:
                    return False
                (aside / MANIFEST).write_bytes(manifest)
                verify_bundle(aside, kind)
                for name in files:
                    (target / name).parent.mkdir(parents=True, exist_ok=True)
                    (aside / name).rename(target / name)
        except BundleError as error:
            self._discard_broken(url, error)
            return False
        return True

    def _discard_broken(self, url: str, error: BundleError) -> None:
        self.meter.count("broken")
        self._tell("cache_entry_broken", {"reason": error.message, "url": url})
        self._ask(lambda: self._remove(url))

    def _copy_all(self, url: str, names: list[str], target: Path) -> bool:
        for name in names:
            self._check_on()
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

    # --- a store that may hang ----------------------------------------------------------------------------------------

    def _ask(self, work: Callable[[], ResultT], num_bytes: int = 0) -> ResultT | None:
        """What `work` gives, or None when the store is off, fails, or takes too long for `num_bytes`."""
        if self._is_off:
            return None
        limit_s = self._timeout_s + num_bytes / SLOWEST_BYTES_PER_S
        results: list[ResultT] = []
        errors: list[str] = []

        def run() -> None:
            try:
                results.append(work())
            except Exception as error:  # noqa: BLE001 - drivers raise what they like, and nothing here may end a run
                errors.append(f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=run, name="corelane-shared", daemon=True)
        thread.start()
        thread.join(limit_s)
        if thread.is_alive():
            errors = [f"no answer within {limit_s:.0f} s"]
        if errors and not self._is_off:
            self._is_off = True
            self._tell("cache_shared_failed", {"url": self.url, "reason": errors[0], "action": "going on without it"})
        return results[0] if results and not errors else None

    def _check_on(self) -> None:
        """Stop a call that was given up between two files."""
        if self._is_off:
            raise TimeoutError("the shared tier is off")
