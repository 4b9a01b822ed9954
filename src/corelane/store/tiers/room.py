"""Which entries a cache directory has, how many bytes they are, and who goes when there is no room for others.

`DiskTier` builds and hands out entries; this module only lists and evicts them. An entry's last use is its directory's
modification time, so the order survives processes.
"""

from __future__ import annotations

import hashlib
import math
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from corelane.core.errors import ConfigError, DiskFullError
from corelane.store.entry import EntryPlace, entry_bytes, evict_entry, is_entry, last_used_ns
from corelane.store.tiers.tier import Tell, TierMeter, TierUsage

T = TypeVar("T")

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "prepared": "prepared",
        "schemas": "schema",
        "downloads": "download",
        "augmented": "arrays",
        "graphs": "arrays",
        "digests": "arrays",
        "arrays": "arrays",
    }
)
"""The folders of entries, and the kind of bundle in each. Nothing else in the directory is looked at or removed."""

_TRUSTED_SHARE = 1 / 16  # of the bound: by so much each of several processes may pass it before it looks again
ARRAYS = "arrays"  # the kind of a key that names none
_PLAIN = re.compile(r"^[a-z0-9][a-z0-9_-]{0,127}$|^_[0-9a-f]{64}$")


class Room:
    """Owns the bound of the entries below `directory` and nothing else. Safe to use from several threads."""

    def __init__(self, directory: Path, limit_bytes: int, meter: TierMeter, tell: Tell) -> None:
        self.directory = directory
        self.limit_bytes = limit_bytes
        self._meter = meter
        self._tell = tell
        self._lock = threading.Lock()
        self._counted_bytes: int | None = None  # as last listed, with what was built here since
        self._added_bytes = 0  # since then; others build too, so what was listed does not hold for ever

    def place(self, folder: str, name: str) -> EntryPlace:
        """Where an entry lies. Raises `ConfigError` for a kind that is not in `KINDS`."""
        if folder not in KINDS:
            raise ConfigError(f"a cache entry must be of a kind in {', '.join(KINDS)}, got {folder!r}; use one of them")
        return self._at(folder, plain_name(name))

    def places(self) -> list[EntryPlace]:
        """All entries, whole or broken, the least recently used first."""
        found: list[EntryPlace] = []
        for folder in KINDS:
            if (self.directory / folder).is_dir():
                entries = (path for path in (self.directory / folder).iterdir() if is_entry(path))
                found += [self._at(folder, path.name) for path in entries]
        return sorted(found, key=lambda place: last_used_ns(place.path))

    @property
    def usage(self) -> TierUsage:
        """What lies on disk now; looks at every file."""
        sizes = [entry_bytes(place.path) for place in self.places()]
        return TierUsage(len(sizes), sum(sizes), self.limit_bytes)

    @property
    def counted_bytes(self) -> int:
        """The bytes of all entries when they were last listed, with what this process built since."""
        with self._lock:
            counted = self._counted_bytes
        return self._recount() if counted is None else counted

    def make(self, num_bytes: int) -> None:
        """Evict what was used least recently until `num_bytes` more fit, within the bound and on the disk.

        Raises `DiskFullError` with the bytes needed when they cannot.
        """
        if num_bytes > self.limit_bytes:
            raise DiskFullError(
                f"machine.cache_disk_bytes must be at least {num_bytes} for an entry of so many bytes, "
                f"got {self.limit_bytes}; raise it"
            )
        free = shutil.disk_usage(self.directory).free
        if self.counted_bytes + num_bytes <= self.limit_bytes and num_bytes <= free:
            return
        self.evict(max(self._recount() + num_bytes - self.limit_bytes, num_bytes - free))
        free = shutil.disk_usage(self.directory).free
        if free < num_bytes:
            raise DiskFullError(f"{self.directory} must have {num_bytes} bytes free, got {free}; free some space")

    def add(self, num_bytes: int) -> None:
        """Count an entry that was built, and keep the bound; all are listed when it may be passed, and now and then."""
        with self._lock:
            self._added_bytes += num_bytes
            is_known = self._counted_bytes is not None and self._added_bytes <= _TRUSTED_SHARE * self.limit_bytes
            if is_known:
                self._counted_bytes = (self._counted_bytes or 0) + num_bytes
            is_within = is_known and (self._counted_bytes or 0) <= self.limit_bytes
        if not is_within:
            self.evict(self._recount() - self.limit_bytes)

    def evict(self, num_bytes: float) -> int:
        """Remove entries that nobody uses, the least recently used first, until `num_bytes` came free; how many did."""
        freed = 0
        for place in self.places() if num_bytes > 0 else ():
            if freed >= num_bytes:
                break
            size = entry_bytes(place.path)
            if evict_entry(place):
                freed += size
                self._meter.count("evictions")
                entry = f"{place.path.parent.name}/{place.path.name}"
                self._tell("cache_entry_evicted", {"entry": entry, "num_bytes": size})
        if freed:
            with self._lock:
                self._counted_bytes = max(0, (self._counted_bytes or 0) - freed)
        return freed

    def relieved(self, write: Callable[[], T]) -> T:
        """What `write` gives; it is called once more, after all that nobody uses has gone, when the system refused it.

        For writers that do not know their size beforehand: who asked `make` has had its room already, and is not tried
        again. Raises what `write` raises.
        """
        try:
            return write()
        except DiskFullError as error:
            if not isinstance(error.__cause__, OSError) or self.evict(math.inf) == 0:
                raise
        return write()

    def _at(self, folder: str, name: str) -> EntryPlace:
        seal = self.directory / "seals" / folder / f"{name}.json"
        return EntryPlace(self.directory / folder / name, seal, KINDS[folder])

    def _recount(self) -> int:
        total = self.usage.num_bytes
        with self._lock:
            self._counted_bytes, self._added_bytes = total, 0
        return total


def split_key(key: str) -> tuple[str, str]:
    """The folder of a key and its plain name in it."""
    folder, _, name = key.partition("/")
    return (folder, plain_name(name)) if folder in KINDS and name else (ARRAYS, plain_name(key))


def plain_name(name: str) -> str:
    """`name` itself where any file system takes it, else a name made of its digest, which begins as no other."""
    return name if _PLAIN.match(name) else f"_{hashlib.sha256(name.encode()).hexdigest()}"
