"""Remote files brought to local disk before they are read: every later pass is local, and the next run finds them.

An entry of the cache holds the files of one listing; its name says which objects, of which sizes and versions, and of
which store. When the store tells of another version the entry is another one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import SourceRestartError
from corelane.data.source import Tell
from corelane.machine.backoff import ExponentialBackoff
from corelane.store.hold import Hold
from corelane.store.remote import RemoteFile, RemoteStore
from corelane.store.tiers.disk import DiskTier

MAX_RETRIES = 5
_FILES = "files"  # in the entry, apart from its manifest


def fetch(
    url: str, options: Mapping[str, Any], cache: DiskTier, *, tell: Tell, clock: Clock | None = None
) -> tuple[Path, Hold]:
    """The local folder that holds the files of `url`, under their names below it; fetched unless it is there, whole.

    It stays there for as long as the hold lives.

    Raises `DataError` when there are none, `SourceRestartError` when the store cannot be reached, `DiskFullError`.
    """
    store = RemoteStore(url, options)
    backoff = ExponentialBackoff(MAX_RETRIES, clock=clock or SystemClock())
    for attempt in backoff.attempts(on=SourceRestartError):
        if attempt.number > 1:
            tell("source_restarted", {"source": url, "attempt": attempt.number})
        with attempt:
            files = store.list()
            entry = cache.open_or_build(
                "downloads", _key(url, options, files), partial(_fetch_all, store, files, cache)
            )
    return entry.bundle.path / _FILES, entry.hold


def _fetch_all(store: RemoteStore, files: tuple[RemoteFile, ...], cache: DiskTier, folder: Path) -> None:
    cache.room.make(sum(file.size for file in files))
    for file in files:
        store.fetch(file, folder / _FILES / file.name)


def _key(url: str, options: Mapping[str, Any], files: tuple[RemoteFile, ...]) -> str:
    """A digest with all `options` in it: the host, or whose files they are, may be said there and not in the URL."""
    facts = [url, sorted(options.items()), [[file.url, file.size, file.identity] for file in files]]
    return hashlib.sha256(json.dumps(facts, default=repr).encode()).hexdigest()
