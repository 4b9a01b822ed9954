"""A lock that outlasts neither its holder nor its holder's silence, with fencing: one writer for a directory that
several hosts may share.

The holder keeps a file `<generation>.json` that names it, and touches it while it lives. Whoever comes second is told
who is in. A holder that is dead (its kernel lock is gone, or this machine, whose own disk it is, has booted anew), or
silent for longer than the lease (stopped, or cut off), is succeeded by the next generation; when it wakes, `check`
finds the newer file, so it must be called before each publication. The moment between that and the rename after it is
not covered. Generations only grow.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from corelane.core.clock import Clock
from corelane.core.errors import RunLockedError
from corelane.core.types import JsonObject
from corelane.store.durable import sync_directory

LEASE_S = 60.0  # a live holder is heard every third of it; a machine that swaps may be silent for seconds
MAX_HOLDER_BYTES = 4096
RELEASED: JsonObject = {}
FREE = "free"
_LOCAL_TYPES = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "tmpfs", "overlay"))
_NO_LOCKS = frozenset((errno.EBADF, errno.EACCES, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL))


class Fence(Protocol):
    """What is asked before anything is published."""

    def check(self) -> None:
        """Raise `RunLockedError` when another has taken over."""
        ...


class RunLease(Fence, Protocol):
    """A fence that is taken and given up."""

    def acquire(self) -> None:
        """Take it, or raise `RunLockedError` naming its holder."""
        ...

    def release(self) -> None:
        """Give it up; may be called twice."""
        ...


class NoLease:
    """For who is alone by construction."""

    def check(self) -> None:
        """Nobody can have taken over."""

    def acquire(self) -> None:
        """Nothing to take."""

    def release(self) -> None:
        """Nothing to give up."""


class Lease:
    """Owns the lock files in `folder` and the thread that touches ours, and nothing else.

    `tell` hears an event and its fields when a stale lock is taken over.
    """

    def __init__(
        self, folder: Path, *, clock: Clock, tell: Callable[[str, JsonObject], None], lease_s: float = LEASE_S
    ) -> None:
        self.generation = 0
        self._folder = folder
        self._clock = clock
        self._tell = tell
        self._lease_s = lease_s
        self._descriptor: int | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Become the holder at once, or raise `RunLockedError`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        while self._descriptor is None:
            newest, holder, reason = self.look()
            self._descriptor = self._create(newest + 1)
            if self._descriptor is not None and reason != FREE:
                self._tell("lock_taken_over", {"from": describe(holder), "reason": reason})
        self._remove_older()
        self._ended.clear()
        self._thread = threading.Thread(target=self._beat, name="corelane-lease", daemon=True)
        self._thread.start()

    def look(self) -> tuple[int, JsonObject | None, str]:
        """The newest generation, its holder, and why it may be succeeded. Raises `RunLockedError` when it may not."""
        newest = newest_generation(self._folder)
        holder = read_holder(self._folder, newest)
        reason = self._why_stale(newest, holder)
        if reason is None:
            raise RunLockedError(
                f"{self._folder.parent} must have one trainer at a time, but it is locked by {describe(holder)}; "
                "wait for it, or end it"
            )
        return newest, holder, reason

    def check(self) -> None:
        """Raise `RunLockedError` when a newer generation is there, or ours is not held."""
        newest = newest_generation(self._folder)
        if self._descriptor is None or newest != self.generation:
            who = describe(read_holder(self._folder, newest)) if newest > self.generation else "nobody"
            raise RunLockedError(
                f"{self._folder.parent} must be written by the newest trainer, but {who} holds it instead of this one, "
                "which was silent for too long; nothing more is written"
            )

    def release(self) -> None:
        """Leave the file behind as a free one, so that its generation is never given again."""
        if self._descriptor is None:
            return
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(RELEASED).encode(), 0)
        os.close(self._descriptor)
        self._descriptor = None

    def _create(self, generation: int) -> int | None:
        """The descriptor of the new lock file, locked, or None when another was faster."""
        path = self._path(generation)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return None
        try_lock(descriptor)
        os.write(descriptor, json.dumps(this_process(self._clock)).encode())
        os.fsync(descriptor)
        sync_directory(self._folder)
        self.generation = generation
        return descriptor

    def _why_stale(self, generation: int, holder: JsonObject | None) -> str | None:
        """Why the lock may be taken; None while its holder lives."""
        if generation == 0 or holder == RELEASED:
            return FREE
        here = this_process(self._clock)
        if holder is not None and self._is_dead(generation, holder, here):
            return "its holder is dead"
        if holder is not None and has_booted_anew(holder, here) and is_local(self._folder):
            return "its machine has booted anew"
        silent_s = self._silent_s(generation)
        return f"its holder was silent for {silent_s:.0f} s" if silent_s > self._lease_s else None

    def _is_dead(self, generation: int, holder: JsonObject, here: JsonObject) -> bool:
        """Whether the kernel says so: of its own processes only, by the lock or else, without locks, by the pid."""
        if not here["boot"] or holder.get("boot") != here["boot"]:
            return False
        try:
            descriptor = os.open(self._path(generation), os.O_RDWR)
        except OSError:
            return False
        try:
            is_free = try_lock(descriptor)
        finally:
            os.close(descriptor)
        return is_gone(holder, here) if is_free is None else is_free

    def _silent_s(self, generation: int) -> float:
        """How long ago the holder was heard, by the file system's own clock: hosts' clocks may differ."""
        probe = self._folder / f".{os.getpid()}.{threading.get_ident()}.probe"
        try:
            probe.touch()
            return probe.stat().st_mtime - self._path(generation).stat().st_mtime
        except FileNotFoundError:
            return 0.0  # it was just succeeded by another
        finally:
            probe.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(self._lease_s / 3) and self._descriptor is not None:
            with suppress(OSError):  # a directory that does not answer is found out by who writes to it
                os.utime(self._descriptor)

    def _remove_older(self) -> None:
        for generation in _generations(self._folder):
            if generation < self.generation:
                self._path(generation).unlink(missing_ok=True)

    def _path(self, generation: int) -> Path:
        return _lock_path(self._folder, generation)


def newest_generation(folder: Path) -> int:
    """The generation of the newest lock file in `folder`, 0 without one."""
    return max(_generations(folder), default=0)


def read_holder(folder: Path, generation: int) -> JsonObject | None:
    """Who holds the lock: `{}` when it is free, None when nobody knows (its file is gone, or just being written)."""
    try:
        with _lock_path(folder, generation).open("rb") as file:
            content = json.loads(file.read(MAX_HOLDER_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def describe(holder: JsonObject | None) -> str:
    """A holder in words: pid, host and since when."""
    if not holder:
        return "a process that has not said its name"
    since = datetime.fromtimestamp(_seconds(holder.get("since_s")), UTC).isoformat(timespec="seconds")
    return f"pid {holder.get('pid')} on {holder.get('host')} since {since}"


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1 << 35 else 0.0


def _generations(folder: Path) -> list[int]:
    try:
        names = [path.stem for path in folder.iterdir() if path.suffix == ".json"]
    except FileNotFoundError:
        return []
    return [int(name) for name in names if name.isascii() and name.isdecimal()]


def _lock_path(folder: Path, generation: int) -> Path:
    return folder / f"{generation}.json"


def try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool | None:
    """Whether the kernel's lock on the open file is ours now; None where its file system has none."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        return None if error.errno in _NO_LOCKS else False
    return True


def is_gone(holder: JsonObject, here: JsonObject) -> bool:
    """Whether no process has the holder's pid; only known of one whose processes we see (same boot, same namespace)."""
    pid, seen = holder.get("pid"), ("boot", "pids", "machine")
    if not isinstance(pid, int) or not all(here[name] and holder.get(name) == here[name] for name in seen):
        return False
    return not Path(f"/proc/{pid}").exists()


def has_booted_anew(holder: JsonObject, here: JsonObject) -> bool:
    """Whether the holder's boot is an earlier one of this machine, for all that names and numbers tell.

    Clones of one image have the same name and number too, so it counts on a disk of this machine's own only.
    """
    boots = here["boot"], holder.get("boot")
    return all(boots) and boots[0] != boots[1] and holder.get("machine") == here["machine"]


def is_local(folder: Path) -> bool:
    """Whether the file system of `folder` is of a kind that one machine at a time has mounted."""
    place = folder.resolve()
    types = {}
    for line in _content("/proc/self/mountinfo").splitlines():  # man 5 proc: the mount point, and the type after " - "
        fields = line.split()
        types[fields[4].encode().decode("unicode_escape")] = fields[fields.index("-") + 1]
    mount = max((one for one in types if place.is_relative_to(one)), key=len, default="")
    return types.get(mount) in _LOCAL_TYPES


def this_process(clock: Clock) -> JsonObject:
    """Who we are, for others to read: pid and whose pids those are, host, machine and boot, and since when."""
    host = socket.gethostname()
    return {
        "pid": os.getpid(),
        "host": host,
        "machine": f"{host} {_content('/etc/machine-id')} {platform.machine()}",
        "boot": _content("/proc/sys/kernel/random/boot_id"),
        "pids": _link("/proc/self/ns/pid"),
        "since_s": clock.now(),
    }


def _content(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""
