"""What earlier runs downloaded of one URL: its file, a bundle that is verified, and a note of its version.

The file is immutable and named by its content; the note, replaced atomically, says which one is the newest. Several
processes may want the same URL: one downloads, the others wait and then find it. A lock that is held too long is passed
by, which costs a second download and nothing else.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from corelane.core.clock import Clock
from corelane.core.errors import BundleError
from corelane.data.config import HTTPConfig
from corelane.data.source import Tell
from corelane.data.sources.http.version import Validators
from corelane.store.bundle import verify_bundle, write_atomic
from corelane.store.entry import open_or_build

KIND = "download"
_NOTE_VERSION = 2
_POLL_S = 0.2


class Kept:
    """Owns the downloads of one URL below `folder` and nothing else."""

    def __init__(self, folder: Path, config: HTTPConfig, *, clock: Clock, tell: Tell) -> None:
        self.folder = folder
        self._clock = clock
        self._tell = tell
        facts = [config.url, None if config.paging is None else config.paging.model_dump()]
        self.key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
        self._note = folder / f"{self.key}.json"

    def newest(self, sha256: str | None) -> tuple[Path, Validators] | None:
        """The newest file and its version, if it is there, whole and, when `sha256` is given, of that digest."""
        try:
            note = json.loads(self._note.read_bytes())
            if note["version"] != _NOTE_VERSION or sha256 not in (None, *note["digests"]):
                return None
            bundle = verify_bundle(self.folder / f"{self.key}-{note['content'][:32]}", KIND)
            ((name, entry),) = bundle.files.items()
            validators = Validators(note["etag"], note["last_modified"])
        except BundleError as error:
            self._tell("cache_entry_broken", {"reason": error.message})
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return (bundle.path / name, validators) if entry.sha256 == note["content"] else None

    def keep(self, file: Path, validators: Validators | None, digests: tuple[str, ...]) -> Path:
        """Move `file` here; where it lies now. With `validators` the next run can ask for another version.

        The last of `digests` is that of the file's bytes, those before it are of the forms it was sent in.
        """
        entry = self.folder / f"{self.key}-{digests[-1][:32]}"
        bundle, _ = open_or_build(
            entry,
            KIND,
            lambda folder: _move(file, folder),
            on_broken=lambda error: self._tell("cache_entry_broken", {"reason": error.message}),
        )
        (name,) = bundle.files
        if validators is not None and validators.conditions:
            note = {"version": _NOTE_VERSION, "content": digests[-1], "digests": digests, **asdict(validators)}
            write_atomic(self._note, json.dumps(note).encode())
        return bundle.path / name

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


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _move(file: Path, folder: Path) -> None:
    file.rename(folder / file.name)
