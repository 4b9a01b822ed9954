"""Cache entries: bundles that can be made again. Whoever asks gets a whole one, whatever happened to the one before.

Several processes may ask for the same entry at once. None waits for another: each builds its own in a temporary
directory and the first to finish publishes it; the others use that one. A broken entry is removed under a lock, after
a second look, so that a whole one that somebody has just published is never removed.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from corelane.core.errors import BundleError, ConfigError
from corelane.store.bundle import Bundle, verify_bundle, write_bundle
from corelane.store.durable import remove_temporaries, temporary_directory


def open_or_build(
    target: Path,
    kind: str,
    build: Callable[[Path], Mapping[str, str] | None],
    *,
    on_broken: Callable[[BundleError], None],
) -> tuple[Bundle, bool]:
    """The verified bundle `target` of `kind`, and whether it was found (True) or had to be built (False).

    `build(directory)` writes its files, and may give the SHA-256 of some, by name, that it knows from writing them.
    A broken entry is reported to `on_broken`, removed and built again; leftovers of crashed writers beside it are
    removed. Raises what `build` raises, and what `write_bundle` raises.
    """
    found = _open(target, kind, on_broken)
    if found is not None:
        return found, True
    remove_temporaries(target.parent)
    try:
        digests: dict[str, str] = {}
        with write_bundle(target, kind, digests=digests) as directory:
            digests.update(build(directory) or {})
    except ConfigError:
        if not os.path.lexists(target):
            raise  # not a lost race, but the build's own complaint
        return verify_bundle(target, kind), False
    return verify_bundle(target, kind, reads=False), False


def _open(target: Path, kind: str, on_broken: Callable[[BundleError], None]) -> Bundle | None:
    if not os.path.lexists(target):
        return None
    try:
        return verify_bundle(target, kind)
    except BundleError as error:
        on_broken(error)
    with _lock(target.parent):
        try:
            return verify_bundle(target, kind)
        except BundleError:
            _take_away(target)
    return None


def _take_away(target: Path) -> None:
    """Remove `target` so that no reader meets half of it: rename it first."""
    if not os.path.lexists(target):
        return
    with temporary_directory(target) as aside:
        target.rename(aside / "broken")  # and goes with the temporary directory


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
