"""Every system call of a save fails in turn, as on a full or broken disk (strace injects it): once, and for good.

A dry run lists the calls. Then the same process is run again for one call and one error after the other. It saves
twice: after an error that happens once, the second save must succeed.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.faults.save_sweep import STATES, Sweep
from tests.faults.strace import CHANGES, LOOKS, Call, Traced

pytestmark = pytest.mark.needs("strace")

ERRORS = {
    "openat": ["EMFILE", "ENOSPC", "EIO", "EINTR"],
    "write": ["ENOSPC", "EDQUOT", "EIO", "EINTR"],
    "fsync": ["EIO", "ENOSPC", "EDQUOT"],
    "rename": ["EIO", "ENOSPC", "EDQUOT"],
    "mkdir": ["ENOSPC", "EDQUOT", "EIO"],
    "flock": ["ENOLCK", "EINTR"],
    "unlink": ["EIO"],
    "unlinkat": ["EIO"],
    "rmdir": ["EIO"],
    "read": ["EIO", "EINTR"],
    "getdents64": ["EIO"],
    "newfstatat": ["EIO"],
    "close": ["EIO"],
}
"""What Linux may answer: no room, no quota, a broken disk, too many open files, no locks, a signal in between."""

SHARE = 12  # one of so many faults is tried in the short tier, spread evenly: each test takes 5 to 10 s


def _sweep(tmp_path: Path, state: str, share: int, *, for_good: bool) -> None:
    sweep = Sweep(tmp_path, STATES[state], num_saves=2)
    _, calm = sweep.run(calls=CHANGES + LOOKS)
    assert calm.returncode == 0, calm.errors
    faults = [(call, error) for call in calm.calls for error in ERRORS.get(call.name, []) if _may_be(call, error)]
    for call, error in faults[::share]:
        if for_good and (error == "EINTR" or (call.name == "openat" and error == "ENOSPC")):
            continue  # signals end, and a full disk can still be read
        where = f"{error} {'from' if for_good else 'at'} {call}"
        checkpoints, ended = sweep.run(call.fail(error, for_good=for_good), calls=(call.name, "fsync", "writev"))
        assert ended.returncode == 0, f"{where}: {ended.errors}"
        sweep.check(checkpoints, ended.output, where)
        _check_told(ended, error, where)
        assert _flushed_again(ended) == [], where
        if error == "EINTR" and call.name != "openat":  # Python does not ask again when it lists a directory
            assert "failed" not in ended.output, where
        if not for_good:
            last = len(STATES[state]) + 2
            assert f"durable {last}" in ended.output or f"durable {last - 1}" in ended.output, where


def _may_be(call: Call, error: str) -> bool:
    """Opening to read needs no room."""
    return call.name != "openat" or error != "ENOSPC" or "O_CREAT" in call.line


def _check_told(ended: Traced, error: str, where: str) -> None:
    """Every failure names the path, and a full disk also the bytes."""
    for line in re.findall(r"^failed .*", ended.output, re.MULTILINE):
        assert "/copy" in line, f"{where}: {line}"
        if error in ("ENOSPC", "EDQUOT"):
            assert re.search(r"DiskFullError the disk must have 3,010 bytes free for .*, got ", line), (
                f"{where}: {line}"
            )


def _flushed_again(ended: Traced) -> list[str]:
    """The files of checkpoints whose flush failed and that were flushed once more: the second answer may be a lie."""
    flushes = [
        (path, "= 0" not in call.line) for call in ended.calls for path in re.findall(r"fsync\(\d+<(.*?)>", call.line)
    ]
    failed = {path for path, is_failed in flushes if is_failed and ".tmp" in path}
    return [path for path in failed if sum(path == flushed for flushed, _ in flushes) > 1]


@pytest.mark.parametrize("state", STATES)
def test_some_calls_fail_once(tmp_path: Path, state: str) -> None:
    """A3, A4: A call that fails costs at most its save, which says so; nothing else is lost, the next one succeeds."""
    _sweep(tmp_path, state, SHARE, for_good=False)


@pytest.mark.parametrize("state", STATES)
def test_some_calls_fail_for_good(tmp_path: Path, state: str) -> None:
    """A3, A4: While a call keeps failing nothing that exists is touched; afterwards saves succeed."""
    _sweep(tmp_path, state, SHARE, for_good=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("for_good", [False, True])
@pytest.mark.parametrize("state", STATES)
def test_every_call_fails(tmp_path: Path, state: str, for_good: bool) -> None:
    """A3, A4: The same, for every call of a save and every error that Linux may answer."""
    _sweep(tmp_path, state, 1, for_good=for_good)
