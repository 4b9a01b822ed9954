"""Advisory locks (`flock`) of the cache: entries held while they are used, and one builder for an entry at a time.

The kernel ends every lock with its process, however that ends, so a killed user or builder is never waited for. On
network file systems that do not pass locks on, each machine sees its own locks only.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from corelane.core.clock import Clock
from corelane.store.durable import discard

POLL_S = 0.05  # how late a waiting builder may notice; a poll costs microseconds


class Hold:
    """A shared lock on an entry: while it lives, nobody evicts the entry. It ends with `release`, with this object, or
    with the process.
    """

    def __init__(self, descriptor: int) -> None:
        self._finalize = weakref.finalize(self, os.close, descriptor)

    def release(self) -> None:
        """End the hold; may be called twice. What is mapped stays mapped, but its place on disk may go."""
        self._finalize()


def hold(path: Path) -> Hold | None:
    """Hold the directory `path`; None when there is none, or when somebody is about to remove it."""
    descriptor = lock_directory(path, fcntl.LOCK_SH)
    return None if descriptor is None else Hold(descriptor)


def lock_directory(path: Path, kind: int) -> int | None:
    """The descriptor of the directory `path` with the lock `kind`, or None when it is gone or locked by others."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        if os.path.samestat(path.stat(follow_symlinks=False), os.fstat(descriptor)):
            return descriptor
    except OSError:
        pass  # locked by others, or renamed away meanwhile
    os.close(descriptor)
    return None


def remove_unless_held(path: Path) -> None:
    """Remove the directory `path`, unless somebody holds it; nobody can begin to while it goes."""
    descriptor = lock_directory(path, fcntl.LOCK_EX)
    if descriptor is None:
        return
    try:
        with suppress(OSError):  # it goes with what it lies in
            discard(path)
    finally:
        os.close(descriptor)


@contextmanager
def builder_lock(path: Path, *, wait_s: float, clock: Clock, tell: Callable[[str], None]) -> Iterator[None]:
    """Be the only one who holds the lock file `path`; whoever has waited for `wait_s` goes on without it.

    `tell` hears once of waiting and once of waiting too long. The file is made, and removed again, by its holder. Where
    no file can be made (a full or foreign disk) nobody waits: that is for the builder to meet.
    """
    descriptor, deadline_s, has_told = None, clock.monotonic() + wait_s, False
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        while (descriptor := _try_lock(path)) is None:
            if not has_told:
                tell("cache_waits")
                has_told = True
            if clock.monotonic() >= deadline_s:
                tell("cache_waited_too_long")
                break
            clock.sleep(POLL_S)
    try:
        yield
    finally:
        if descriptor is not None:
            path.unlink(missing_ok=True)  # before the lock goes: whoever opened it meanwhile sees that it is another
            os.close(descriptor)


def sweep_locks(directory: Path) -> None:
    """Remove the lock files that killed holders left in `directory`."""
    for path in list(directory.iterdir()) if directory.is_dir() else ():
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(path.stat(), os.fstat(descriptor)):
                    path.unlink()
            finally:
                os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        is_ours = False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = os.path.samestat(path.stat(), os.fstat(descriptor))
        except BlockingIOError:
            return None
        except FileNotFoundError:
            pass  # its last holder has removed it: take the next one
        finally:
            if not is_ours:
                os.close(descriptor)
        if is_ours:
            return descriptor
