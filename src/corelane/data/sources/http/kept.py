"""What earlier runs downloaded of one URL: its file, a bundle that is verified, and a note of its version.

The file is immutable and named by its content; the note, replaced atomically, says which one is the newest. Several
processes may want the same URL: one downloads, the others wait and then find it. A lock that is held too long is passed
by, which costs a second download and nothing else. Files and notes are archived where an archive is configured.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from corelane.core.clock import Clock
from corelane.data.config import HTTPConfig
from corelane.data.sources.http.version import Validators
from corelane.store.bundle import write_atomic
from corelane.store.durable import temporary_directory
from corelane.store.hold import Hold
from corelane.store.tiers.disk import DiskTier

FOLDER = "downloads"  # the kind of entry in the cache
NOTES = "notes"  # and the one in its archive: which content a URL had last
_NOTE_FILE = "note.json"
_NOTE_VERSION = 2
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A downloaded file, which stays in the cache for as long as the hold lives."""

    path: Path
    hold: Hold


class Kept:
    """Owns the downloads of one URL in `cache` and nothing else."""

    def __init__(self, cache: DiskTier, config: HTTPConfig, *, clock: Clock) -> None:
        self.folder = cache.directory / FOLDER
        self._cache = cache
        self._clock = clock
        self.key = _key(config)
        self._note = self.folder / f"{self.key}.json"

    def newest(self, sha256: str | None) -> tuple[KeptFile, Validators] | None:
        """The newest file and its version, if it is there, whole and, when `sha256` is given, of that digest."""
        try:
            self._fetch_note()
            note = json.loads(self._note.read_bytes())
            if note["version"] != _NOTE_VERSION or sha256 not in (None, *note["digests"]):
                return None
            entry = self._cache.restore(FOLDER, f"{self.key}-{note['content'][:32]}")
            if entry is None:
                return None
            ((name, file),) = entry.bundle.files.items()
            validators = Validators(note["etag"], note["last_modified"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        kept = KeptFile(entry.bundle.path / name, entry.hold)
        return (kept, validators) if file.sha256 == note["content"] else None

    def keep(self, file: Path, validators: Validators | None, digests: tuple[str, ...]) -> KeptFile:
        """Move `file` here; where it lies now. With `validators` the next run can ask for another version.

        The last of `digests` is that of the file's bytes, those before it are of the forms it was sent in.
        """
        entry = self._cache.open_or_build(FOLDER, f"{self.key}-{digests[-1][:32]}", lambda folder: _move(file, folder))
        (name,) = entry.bundle.files
        if validators is not None and validators.conditions:
            note = {"version": _NOTE_VERSION, "content": digests[-1], "digests": digests, **asdict(validators)}
            write_atomic(self._note, json.dumps(note).encode())
            self._cache.archive.keep_files(NOTES, self.key, NOTES, {_NOTE_FILE: self._note})
        return KeptFile(entry.bundle.path / name, entry.hold)

    def _fetch_note(self) -> None:
        """Where this machine has no note, the archive's: another machine may have downloaded the same URL."""
        if self._note.exists():
            return
        with temporary_directory(self._note) as folder:
            if self._cache.archive.fetch(NOTES, self.key, NOTES, folder):
                write_atomic(self._note, (folder / _NOTE_FILE).read_bytes())

    @contextmanager
    def alone(self, wait_s: float) -> Iterator[None]:
        """Be the only one who downloads this URL, or wait for at most `wait_s` until the other has."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / f"{self.key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline_s = self._clock.monotonic() + wait_s
            while not _lock(descriptor) and self._clock.monotonic() < deadline_s:
                self._clock.sleep(_POLL_S)
            yield
        finally:
            os.close(descriptor)


def _key(config: HTTPConfig) -> str:
    """A digest of what decides the answer. It has the headers in it: by them the server may give each client another
    content, and say to both that theirs is unchanged.
    """
    headers = sorted([name.lower(), value] for name, value in config.headers.items())
    facts = [config.url, None if config.paging is None else config.paging.model_dump(), headers]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _move(file: Path, folder: Path) -> None:
    try:
        os.link(file, folder / file.name)  # the first name stays until it is kept: a full disk may need a second try
    except OSError:
        file.rename(folder / file.name)  # a file system without links
