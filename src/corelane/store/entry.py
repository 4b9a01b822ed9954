"""Cache entries on disk: bundles that can be made again, found whole, held while they are used, and taken away safely.

It knows one entry at a time; who may build one and who has to go is decided in `tiers/`.
A broken entry is removed under a lock, after a second look, so that a whole one that somebody has just published is
never removed. An entry goes by one rename, so no reader meets half of it; those who have mapped its files keep them.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from corelane.core.errors import BundleError
from corelane.store.bundle import Bundle
from corelane.store.hold import Hold, hold, lock_directory
from corelane.store.seal import verify_sealed

_BLOCK_BYTES = 512  # what st_blocks counts, whatever the file system's own blocks are


@dataclass(frozen=True, slots=True)
class EntryPlace:
    """Where an entry of `kind` lies, and where its seal does."""

    path: Path
    seal: Path
    kind: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A verified entry: its bundle, whether it was found (or had to be built), and the hold that keeps it there."""

    bundle: Bundle
    was_found: bool
    hold: Hold


def open_entry(place: EntryPlace, *, now_s: float, on_broken: Callable[[BundleError], None]) -> Entry | None:
    """The entry, held and verified, or None when there is none. A broken one is reported and removed."""
    if not os.path.lexists(place.path):
        return None
    held = hold(place.path)
    if held is None and place.path.is_dir():
        return None  # somebody is about to remove it
    try:
        bundle = verify_sealed(place.path, place.kind, place.seal, now_s=now_s)
    except BundleError as error:
        if held is not None:
            held.release()
        elif not os.path.lexists(place.path):
            return None  # evicted since it was seen
        on_broken(error)
        _remove_broken(place, now_s)
        return None
    if held is None:
        return None
    mark_used(place.path, now_s)
    return Entry(bundle, was_found=True, hold=held)


def mark_used(path: Path, now_s: float) -> None:
    """Note the time of last use, by which entries are given up, where it survives the process."""
    with suppress(OSError):  # a cache that others own: it is read all the same
        os.utime(path, ns=(int(now_s * 1e9),) * 2)


def last_used_ns(path: Path) -> int:
    """The time of last use in ns; 0 of an entry that is gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def evict_entry(place: EntryPlace) -> bool:
    """Remove the entry unless a process uses it; whether it is gone."""
    descriptor = lock_directory(place.path, fcntl.LOCK_EX)
    if descriptor is None:
        return not os.path.lexists(place.path)
    try:
        return take_away(place)
    finally:
        os.close(descriptor)


def is_in_use(path: Path) -> bool:
    """Whether a process holds the entry now."""
    descriptor = lock_directory(path, fcntl.LOCK_EX)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None and os.path.lexists(path)


def take_away(place: EntryPlace) -> bool:
    """Remove the entry whoever uses it, seal and all; whether it is gone."""
    place.seal.unlink(missing_ok=True)
    # The store's name for leftovers: whoever sweeps will have it if we die here.
    aside = place.path.with_name(f".{place.path.name}.{secrets.token_hex(8)}.tmp")
    try:
        place.path.rename(aside)
    except OSError:
        return not os.path.lexists(place.path)
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)
    return True


def entry_bytes(path: Path) -> int:
    """The bytes that the entry's files take on disk, whole blocks; what vanishes meanwhile counts nothing."""
    total = 0
    for root, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                status = (Path(root) / name).stat(follow_symlinks=False)
                # Some file systems tell blocks only once they are written.
                total += max(status.st_size, _BLOCK_BYTES * status.st_blocks)
    return total


def is_entry(path: Path) -> bool:
    """Whether a name in a folder of entries is that of an entry, and not of unfinished work or a note."""
    return not path.name.startswith(".") and path.is_dir()


def _remove_broken(place: EntryPlace, now_s: float) -> None:
    with _locked(place.path.parent):
        try:
            verify_sealed(place.path, place.kind, place.seal, now_s=now_s)
        except BundleError:
            if os.path.lexists(place.path):
                with suppress(OSError):  # it stays, and who builds it hears that it is there
                    take_away(place)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
