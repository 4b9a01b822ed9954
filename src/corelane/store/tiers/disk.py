"""`DiskTier` (L2): a bounded directory of bundles on local disk, shared by all processes of the machine.

    <directory>/<kind>/<name>/   an entry: a bundle; its modification time is its last use
    <directory>/seals/<kind>/    what its files looked like when they were last hashed (`seal.py`)
    <directory>/locks/           one file for each entry that is being built now

Races, and how they end. Two builders of one entry: one builds, the others wait and find it; who has waited too long
builds too, and the first to finish wins. A user and the evictor: an entry is held while it is used, and a held one
stays. A user and a remover of broken entries: what is mapped stays mapped. A killed process: its locks end with it, and
its unfinished work is swept by the next builder.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import BundleError, ConfigError, DiskFullError, NotFoundError
from corelane.store.bundle import Bundle, FileEntry, verify_bundle, write_bundle
from corelane.store.durable import remove_temporaries
from corelane.store.entry import Entry, EntryPlace, entry_bytes, evict_entry, mark_used, open_entry, take_away
from corelane.store.hold import POLL_S, builder_lock, hold, sweep_locks
from corelane.store.seal import seal_written
from corelane.store.tiers.archive import Archive, NoArchive
from corelane.store.tiers.arrays import map_arrays, write_arrays
from corelane.store.tiers.room import Room, split_key
from corelane.store.tiers.tier import Arrays, Tell, TierMeter, TierUsage, size_of, tell_nobody

LIMIT_BYTES = 10 << 30
WAIT_S = 3600.0  # for another process that builds the same; preparing hundreds of gigabytes may take as long
PUT_WAIT_S = 30.0  # for another process that writes the same arrays, which are in memory there already

Build = Callable[[Path], "Mapping[str, FileEntry] | None"]
"""Writes the files of an entry into a directory; may give, by name, what it knows of some from writing them."""

ARCHIVED = "downloads"  # the kind of entry that is archived: raw data cannot be made again when its source is gone
LOCKS = "locks"
_MOST_TRIES = 3  # an entry may be evicted between its making and its holding; three times in a row it is not
_LOCKED_S = 5.0  # for whoever has locked an entry for a moment, to see whether it is used, on a machine that is slow


class DiskTier:
    """Owns the entries below `directory`, at most `limit_bytes` of them after each build, and nothing else.

    Entries in use are never evicted; if they alone are above the bound, the tier is above it until they are free.
    Downloads are looked for in `archive` before they are built, and kept there afterwards.
    `tell` hears of broken entries, of waiting for another builder (at most `wait_s`) and of evictions.
    """

    def __init__(
        self,
        directory: Path,
        limit_bytes: int = LIMIT_BYTES,
        *,
        wait_s: float = WAIT_S,
        clock: Clock | None = None,
        archive: Archive | None = None,
        tell: Tell = tell_nobody,
    ) -> None:
        self.directory = directory
        self.meter = TierMeter()
        self._wait_s = wait_s
        self._clock = clock or SystemClock()
        self.archive = archive or NoArchive()
        self._tell = tell
        self.room = Room(directory, limit_bytes, self.meter, tell)

    # --- a mapping of arrays ------------------------------------------------------------------------------------------

    def get(self, key: str) -> Arrays | None:
        """See `CacheTier.get`; the arrays are memory-mapped, and stay valid if the entry goes."""
        entry = self.open(*split_key(key))
        if entry is None:
            return None
        try:
            return map_arrays(entry.bundle.path)
        except BundleError as error:  # whole, but written by somebody else
            self._count_broken(error)
            take_away(self.room.place(*split_key(key)))
            return None

    def put(self, key: str, arrays: Arrays) -> bool:
        """See `CacheTier.put`; a value that is there stays. False when it is above the bound, or the disk is full or
        not ours to write to, which is told.
        """

        def build(directory: Path) -> None:
            self.room.make(size_of(arrays))
            write_arrays(directory, arrays)

        try:
            self._build_alone(self.room.place(*split_key(key)), build, min(PUT_WAIT_S, self._wait_s)).hold.release()
        except (DiskFullError, ConfigError, OSError) as error:
            self._tell("cache_not_kept", {"directory": str(self.directory), "reason": str(error)})
            return False
        return True

    def remove(self, key: str) -> None:
        """See `CacheTier.remove`; an entry in use stays."""
        evict_entry(self.room.place(*split_key(key)))

    def close(self) -> None:
        """Nothing is held between calls but what callers hold."""

    # --- entries of files ---------------------------------------------------------------------------------------------

    def open(self, folder: str, name: str) -> Entry | None:
        """The entry `name` of the kind `folder` (one of `KINDS`), verified and held, or None."""
        entry = self._open(self.room.place(folder, name))
        self.meter.count("misses" if entry is None else "hits")
        return entry

    def open_or_build(self, folder: str, name: str, build: Build) -> Entry:
        """`open`, or the entry that `build` makes: by one builder at a time in all processes; the others wait for it.

        `build` writes its files as they come, so what it makes may be larger than memory; it calls `room.make` once it
        knows how large. Raises what `build` raises, and what `write_bundle` raises.
        """
        entry = self.open(folder, name)
        return self._build_alone(self.room.place(folder, name), build, self._wait_s) if entry is None else entry

    @contextmanager
    def recording(self, folder: str, name: str, num_bytes: int, known: Mapping[str, FileEntry]) -> Iterator[Path]:
        """A directory that becomes the entry `name` at the end of the block, for who cannot hand over a `build`.

        `num_bytes` are made room for. Nobody is kept from recording the same: the first to finish wins. `known` may be
        filled, during the block, with what was written of files by name. Raises `DiskFullError` and `OSError`, which
        are told, and `ConfigError` when the entry is there before the block begins.
        """
        place, directory = self.room.place(folder, name), None
        remove_temporaries(place.path.parent)
        try:
            with write_bundle(place.path, place.kind, known=known) as directory:
                self.room.make(num_bytes)
                yield directory
        except (DiskFullError, OSError) as error:
            self._tell("cache_not_kept", {"directory": str(self.directory), "reason": str(error)})
            raise
        except ConfigError:
            if directory is None or not os.path.lexists(place.path):
                raise
            return  # another was faster
        held = hold(place.path)
        if held is not None:
            self._published(place)
            held.release()

    def restore(self, folder: str, name: str) -> Entry | None:
        """`open`, or the entry as the archive has it."""
        try:
            return self.open_or_build(folder, name, _never_build)
        except NotFoundError:
            return None

    @property
    def usage(self) -> TierUsage:
        """What lies on disk now; looks at every file."""
        return self.room.usage

    def _open(self, place: EntryPlace) -> Entry | None:
        return open_entry(place, now_s=self._clock.now(), on_broken=self._count_broken)

    def _count_broken(self, error: BundleError) -> None:
        self.meter.count("broken")
        self._tell("cache_entry_broken", {"reason": error.message})

    # --- building -----------------------------------------------------------------------------------------------------

    def _build_alone(self, place: EntryPlace, build: Build, wait_s: float) -> Entry:
        lock = self.directory / LOCKS / f"{place.path.parent.name}-{place.path.name}"

        def told(event: str) -> None:
            self._tell(event, {"entry": f"{place.path.parent.name}/{place.path.name}", "wait_s": wait_s})

        with builder_lock(lock, wait_s=wait_s, clock=self._clock, tell=told):
            entry = self._open_or_build(place, build)
        if not entry.was_found and place.path.parent.name == ARCHIVED:  # slow: nobody else waits for it
            self.archive.keep(ARCHIVED, place.path.name, place.path)
        return entry

    def _open_or_build(self, place: EntryPlace, build: Build) -> Entry:
        deadline_s = self._clock.monotonic() + _LOCKED_S
        for num_tries in itertools.count(1):
            entry = self._open(place) or self._build(place, build)
            if entry is not None:
                return entry
            if num_tries >= _MOST_TRIES and self._clock.monotonic() >= deadline_s:
                break
            self._clock.sleep(POLL_S)
        raise DiskFullError(
            f"{place.path} must stay in the cache, whole, while it is used, but at {num_tries} tries it was evicted, "
            "locked or broken past removing; raise machine.cache_disk_bytes, or remove it"
        )

    def _build(self, place: EntryPlace, build: Build) -> Entry | None:
        remove_temporaries(place.path.parent)
        sweep_locks(self.directory / LOCKS)
        is_ours = self.room.relieved(lambda: self._write(place, build))
        held = hold(place.path) if is_ours else None
        if held is None:
            return None
        return Entry(self._published(place), was_found=False, hold=held)

    def _published(self, place: EntryPlace) -> Bundle:
        """The bundle of an entry just written here, and held; with its seal, its time of use, its part of the bound."""
        bundle = verify_bundle(place.path, place.kind, believed=lambda _: True)
        now_s = self._clock.now()
        seal_written(bundle, place.seal, now_s=now_s)
        mark_used(place.path, now_s)
        self.room.add(entry_bytes(place.path))
        return bundle

    def _write(self, place: EntryPlace, build: Build) -> bool:
        """Whether the entry that lies there now is the one that was built here; another may have been faster."""
        known: dict[str, FileEntry] = {}
        try:
            with write_bundle(place.path, place.kind, known=known) as directory:
                if not self._fetch_archived(place, directory):
                    known.update(build(directory) or {})
        except ConfigError:
            if not os.path.lexists(place.path):
                raise  # not a lost race, but the build's own complaint
            return False
        return True

    def _fetch_archived(self, place: EntryPlace, directory: Path) -> bool:
        folder, name = place.path.parent.name, place.path.name
        return folder == ARCHIVED and self.archive.fetch(folder, name, place.kind, directory)


def _never_build(directory: Path) -> None:
    raise NotFoundError(f"{directory} must be in the archive, got nothing there")


def temporary_tier(owner: object) -> DiskTier:
    """A tier without a bound in a temporary directory, which goes when `owner` does."""
    directory = Path(tempfile.mkdtemp(prefix="corelane-"))
    weakref.finalize(owner, shutil.rmtree, directory, ignore_errors=True)
    return DiskTier(directory, sys.maxsize)
