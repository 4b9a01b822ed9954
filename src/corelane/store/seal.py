"""Seals: what files looked like when their content was last verified, so that it need not be hashed at every start.

A stamp is a file's size, times of change and inode. A process that writes to a file, copies or replaces it cannot keep
them (nobody sets `ctime`). A file that changed within one tick of its file system's clock before it was hashed could
change again and look the same (git calls that racily clean), so such files are not sealed. What no stamp shows, a disk
that rots in silence, is found by hashing: at the latest a week after the last time, and by `corelane cache verify`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from corelane.core.errors import CorelaneError
from corelane.store.bundle import Bundle, verify_bundle
from corelane.store.durable import remove_temporaries, write_atomic

VERSION = 1
LIFETIME_S = 7 * 24 * 3600.0  # how long a seal spares the hashing
SEALED_BYTES = 1 << 20  # smaller bundles are hashed every time: that takes a millisecond
_TICK_NS = 50_000_000  # Linux stamps files by its timer, at most 10 ms late
_COARSE_TICK_NS = 2_100_000_000  # FAT counts in two seconds, old file systems in one; their stamps have no fraction

Stamp = tuple[int, int, int, int]
"""Size in bytes, mtime and ctime in ns, inode."""


@dataclass(frozen=True, slots=True)
class Seal:
    """The digest of a verified bundle, its files' stamps by name, and when all were last hashed (s since 1970)."""

    digest: str
    stamps: Mapping[str, Stamp]
    hashed_s: float


def stamp_of(status: os.stat_result) -> Stamp:
    """The stamp in what `stat` says of a file."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def is_settled(stamp: Stamp, at_ns: int) -> bool:
    """Whether a file that had this stamp at the time `at_ns` of its file system must get another with any change."""
    _, _, changed_ns, _ = stamp
    tick_ns = _TICK_NS if changed_ns % 1_000_000_000 else _COARSE_TICK_NS
    return changed_ns + tick_ns < at_ns


def file_system_time(directory: Path) -> int:
    """The time in ns by the clock that stamps the files in `directory`, which may be another machine's."""
    with tempfile.TemporaryFile(dir=directory) as file:
        return os.fstat(file.fileno()).st_mtime_ns


def verify_sealed(path: Path, kind: str, seal: Path, *, now_s: float) -> Bundle:
    """`verify_bundle`, hashing only those files whose stamps are not those of the seal file `seal`; renews the seal.

    Raises `BundleError` as `verify_bundle` does.
    """
    known, marks = _read(seal), _Marks.take(path, seal)  # before hashing: what changes later gets other stamps
    if known is not None and 0 <= now_s - known.hashed_s < LIFETIME_S:
        unchanged = frozenset(name for name, stamp in known.stamps.items() if marks.stamps.get(name) == stamp)
        bundle = verify_bundle(path, kind, believed=unchanged.__contains__)
        if bundle.digest == known.digest:
            if unchanged != bundle.files.keys():
                marks.write(bundle, seal, known.hashed_s)
            return bundle
    return verify_anew(path, kind, seal, now_s=now_s)


def verify_anew(path: Path, kind: str, seal: Path, *, now_s: float) -> Bundle:
    """`verify_bundle` with every file hashed, whatever the seal says; renews it."""
    marks = _Marks.take(path, seal)
    bundle = verify_bundle(path, kind)
    marks.write(bundle, seal, now_s)
    return bundle


def seal_written(bundle: Bundle, seal: Path, *, now_s: float) -> None:
    """Seal a bundle that this process has just written, hashing what it wrote."""
    _Marks.take(bundle.path, seal).write(bundle, seal, now_s)


@dataclass(frozen=True, slots=True)
class _Marks:
    """The stamps of everything below a bundle, and the file system's time (ns) when they were taken."""

    stamps: Mapping[str, Stamp]
    at_ns: int

    @classmethod
    def take(cls, path: Path, seal: Path) -> _Marks:
        stamps: dict[str, Stamp] = {}
        at_ns = 0  # of a directory that cannot be written: nothing is sealed there
        with suppress(OSError):
            seal.parent.mkdir(parents=True, exist_ok=True)
            at_ns = file_system_time(seal.parent)
        with suppress(OSError):  # somebody removes files meanwhile: those left out are hashed
            for file in path.rglob("*"):
                stamps[file.relative_to(path).as_posix()] = stamp_of(file.stat(follow_symlinks=False))
        return cls(stamps, at_ns)

    def write(self, bundle: Bundle, seal: Path, hashed_s: float) -> None:
        """Seal `bundle`. A disk that cannot take it costs the seal and nothing else."""
        if sum(entry.size for entry in bundle.files.values()) < SEALED_BYTES:
            return
        settled = {
            name: self.stamps[name]
            for name in bundle.files
            if name in self.stamps and is_settled(self.stamps[name], self.at_ns)
        }
        content = {"version": VERSION, "digest": bundle.digest, "hashed_s": hashed_s, "stamps": settled}
        with suppress(OSError, CorelaneError):
            remove_temporaries(seal.parent)
            write_atomic(seal, json.dumps(content).encode())


def _read(seal: Path) -> Seal | None:
    try:
        content = json.loads(seal.read_bytes())
        if content["version"] != VERSION:
            return None
        stamps = {name: (size, mtime, ctime, inode) for name, (size, mtime, ctime, inode) in content["stamps"].items()}
        return Seal(content["digest"], stamps, float(content["hashed_s"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # none, or no seal of ours: everything is hashed
