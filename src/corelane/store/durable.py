"""The few system calls that make a file survive a power cut, and the names under which unfinished writes hide.

It knows neither manifests nor hashes; `bundle.py` builds on it. An unfinished file or directory is a sibling of its
target named `.<target>.<random>.tmp`, and its writer holds an advisory lock on it, so a clean-up can tell a crashed
writer's leftovers from work in progress (another process's or this one's). Where a file system has no locks, nothing
can be told apart, and leftovers stay.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from corelane.core.errors import ConfigError, DiskFullError

_NO_LOCKS = frozenset((errno.EBADF, errno.EACCES, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS))
"""What file systems answer that have no locks of this kind, as some network file systems do."""

_NO_DIRECTORY_FLUSH = frozenset((errno.EINVAL, errno.EBADF))
"""What file systems answer that flush names with the file and know no flush of a directory."""

_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
"""No free bytes or names, the quota used up, a file larger than the process may write (`ulimit -f`)."""

_TEMPORARY = re.compile(r"^\..+\.[0-9a-f]{16}\.tmp$")


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader, or a power cut, sees the old content or the new, never a mixture.

    Raises `DiskFullError` when there is no room (an existing `path` is untouched), `ConfigError` when the directory
    cannot be written.
    """
    with temporary_file(path) as temporary:
        temporary.write_bytes(data)


def write_new(path: Path, data: bytes) -> bool:
    """Write `data` to `path` if nothing lies there, whole or not at all; whether it was. Of several, one is first.

    Needs a file system with hard links: unlike a rename, a link never replaces what it meets. Raises what
    `write_atomic` does.
    """
    with full_disk_reported(path), _locked_temporary(path, directory=False) as temporary:
        temporary.write_bytes(data)
        sync_file(temporary)
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
        sync_directory(path.parent)
        return True


@contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """`write_atomic` for a file that is written bit by bit: yields a file that becomes `path` on a clean exit."""
    with full_disk_reported(path), _locked_temporary(path, directory=False) as temporary:
        yield temporary
        sync_file(temporary)
        temporary.replace(path)
        sync_directory(path.parent)


def remove_temporaries(directory: Path) -> None:
    """Remove what crashed writers left in `directory`; what a live writer still holds, and everything else, stays."""
    if not directory.is_dir():
        return
    for path in sorted(directory.iterdir()):
        if _TEMPORARY.match(path.name) and not path.is_symlink():
            with suppress(OSError):  # not ours to open, or a broken disk: what cannot go now stays for the next time
                _remove_if_abandoned(path)


@contextmanager
def temporary_directory(target: Path) -> Iterator[Path]:
    """A new, locked directory beside `target`; removed on exit unless the caller has renamed it away."""
    with _locked_temporary(target, directory=True) as temporary:
        yield temporary


def sync_file(path: Path) -> None:
    """Flush `path` to the device. A failure is raised, never retried: the kernel may have dropped the pages."""
    _sync(path, os.O_RDONLY)


def sync_directory(path: Path) -> None:
    """Flush the names in directory `path` to the device. A failure is raised, never retried."""
    try:
        _sync(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_FLUSH:
            raise


def sync_names(directory: Path) -> None:
    """Flush the names in `directory`, and the names that lead to it.

    For whoever takes over what another process wrote: that one may have been killed between giving a name and flushing
    it, so what is found here is not yet known to survive a power cut. What lies in directories above that this user
    cannot read was not made by this user, and is left out.
    """
    sync_directory(directory)
    folder = directory.resolve()
    while not os.path.ismount(folder):
        folder = folder.parent
        try:
            sync_directory(folder)
        except PermissionError:
            return


def discard(path: Path) -> None:
    """Remove the file or directory `path`; nobody finds half of it, also not after a kill or a power cut.

    It is renamed to a temporary name and that is flushed; if this process ends here, the next clean-up removes it.
    """
    trash = _temporary_name(path)
    path.rename(trash)
    sync_directory(path.parent)
    _remove(trash)


@contextmanager
def full_disk_reported(target: Path, needed_bytes: int | None = None) -> Iterator[None]:
    """Turn the system's complaint that `target` does not fit (disk, quota, limit) into `DiskFullError`.

    The message has `needed_bytes`, where the caller knows them. Other errors of the system get the path of `target`,
    where they have none (a failed write or flush has none).
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            error.filename = error.filename or str(target)
            raise
        room = "room" if needed_bytes is None else f"{needed_bytes:,} bytes free"
        raise DiskFullError(
            f"the disk must have {room} for {target}, got {room_at(target.parent, error)}; "
            "free some space or choose another directory",
            detail=str(error),
        ) from error


def room_at(directory: Path, error: BaseException | None = None) -> str:
    """In words what is free where `directory` lies, for a message about `error`: bytes, names, quota, limit."""
    number = getattr(error, "errno", None)
    if number == errno.EDQUOT:
        return "a quota that is used up"
    if number == errno.EFBIG:
        return "a limit on the size of a file (see `ulimit -f`)"
    while not directory.exists():
        directory = directory.parent
    free = os.statvfs(directory)
    # File systems without a fixed number of files say that they have 0 in all.
    names = f" and {free.f_favail:,} files" if free.f_files else ""
    return f"{free.f_bavail * free.f_frsize:,} bytes{names} free"


# --- temporaries ------------------------------------------------------------------------------------------------------


@contextmanager
def _locked_temporary(target: Path, *, directory: bool) -> Iterator[Path]:
    try:
        _make_directory(target.parent)
        path, descriptor = _create_locked(target, directory)
    except (PermissionError, FileExistsError, FileNotFoundError, NotADirectoryError) as error:
        raise _unwritable(target.parent, error) from error
    except OSError as error:
        if error.errno == errno.EROFS:
            raise _unwritable(target.parent, error) from error
        raise
    try:
        yield path
    finally:
        _remove(path)
        with suppress(OSError):  # what was written is flushed, or has failed already: this says nothing of it
            os.close(descriptor)  # the lock goes last, so that nobody else starts to clean up at the same time


def _make_directory(directory: Path) -> None:
    """`directory` with its parents. What is flushed into a directory is lost with it, so each new name is flushed."""
    if directory.is_dir():
        return
    _make_directory(directory.parent)
    try:
        directory.mkdir()
    except FileExistsError:
        if not directory.is_dir():
            raise
    try:
        sync_directory(directory.parent)
    except OSError:
        with suppress(OSError):
            directory.rmdir()  # the next one who finds it would take its name for flushed
        raise


def _create_locked(target: Path, directory: bool) -> tuple[Path, int]:
    while True:
        path = _temporary_name(target)
        if directory:
            path.mkdir()
        else:
            path.touch(exist_ok=False)
        try:
            descriptor = _open_to_lock(path)
        except FileNotFoundError:
            continue  # a clean-up came between creation and the lock; take another name
        except OSError:
            _remove(path)
            raise
        is_ours = False
        try:
            _wait_for_lock(descriptor)
            is_ours = _is_same(path, descriptor)
        finally:
            if not is_ours:
                os.close(descriptor)
        if is_ours:
            return path, descriptor


def _temporary_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")


def _open_to_lock(path: Path) -> int:
    """NFS and SMB lock a file for one alone only when it is open for writing; a directory cannot be."""
    return os.open(path, os.O_NOFOLLOW | (os.O_RDONLY | os.O_DIRECTORY if path.is_dir() else os.O_RDWR))


def _wait_for_lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _remove_if_abandoned(path: Path) -> None:
    """Raises `OSError` when its writer lives, or may live where there are no locks."""
    descriptor = _open_to_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(path)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """As far as it can be: what stays has a temporary's name, and the next clean-up tries again."""
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _sync(path: Path, flags: int) -> None:
    try:
        descriptor = os.open(path, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        error.filename = str(path)  # a failed flush does not say of what
        raise


def _unwritable(directory: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"{directory} must be a directory that can be written, got {error.strerror!r}; "
        "choose another or change its owner"
    )
