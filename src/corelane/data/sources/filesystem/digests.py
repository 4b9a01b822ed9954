"""The content digest of files, kept between runs: files that nothing has touched are not read again to be recognised.

The digest is kept in the cache under the files' paths and stamps (size, times of change, inode; see `store/seal.py`),
with the same rule for files that changed a moment ago: their digest is not kept. Called by `FileSystemSource`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence

import numpy as np

from corelane.data.sources.filesystem.files import FrozenFile, content_digest, read_errors
from corelane.store.seal import SEALED_BYTES, Stamp, is_settled, stamp_of
from corelane.store.tiers.disk import DiskTier

FOLDER = "digests"  # the kind of entry in the cache
_VERSION = 1


def kept_digest(files: Sequence[FrozenFile], facts: Sequence[str], cache: DiskTier | None) -> str:
    """`content_digest` of `files` and `facts`, from `cache` where the files are as they were when it was computed."""
    if cache is None or sum(file.size for file in files) < SEALED_BYTES:
        return content_digest(files, *facts)
    at_ns = time.time_ns()  # before the files are read: what changes from now on gets another stamp
    with read_errors(files[0].path.parent):
        stamps = [stamp_of(file.path.stat()) for file in files]
    if not all(map(_is_frozen, files, stamps)):
        return content_digest(files, *facts)  # which says what has changed
    key = f"{FOLDER}/{_key(files, stamps, facts)}"
    kept = cache.get(key)
    if kept is not None:
        return bytes(kept["sha256"]).hex()
    digest = content_digest(files, *facts)
    if all(is_settled(stamp, at_ns) for stamp in stamps):
        cache.put(key, {"sha256": np.frombuffer(bytes.fromhex(digest), dtype=np.uint8)})
    return digest


def stat_digest(files: Sequence[FrozenFile], facts: Sequence[str]) -> str:
    """SHA-256 over `facts` and what the files are called, their sizes and times of change."""
    known = [[str(file.path.absolute()), file.size, file.changed_ns] for file in files]
    return hashlib.sha256(json.dumps([_VERSION, list(facts), known]).encode("utf-8", "surrogateescape")).hexdigest()


def _is_frozen(file: FrozenFile, stamp: Stamp) -> bool:
    """Whether the file still is what was listed."""
    size, changed_ns, _, _ = stamp
    return (size, changed_ns) == (file.size, file.changed_ns)


def _key(files: Sequence[FrozenFile], stamps: Sequence[Stamp], facts: Sequence[str]) -> str:
    known = [[str(file.path.absolute()), *stamp] for file, stamp in zip(files, stamps, strict=True)]
    return hashlib.sha256(json.dumps([_VERSION, list(facts), known]).encode("utf-8", "surrogateescape")).hexdigest()
