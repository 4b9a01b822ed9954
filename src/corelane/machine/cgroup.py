"""The CPU quota and memory limit that control groups put on this process, version 1, version 2 or both mounted.

A limit holds for a group and everything below it, so the whole path from the process's own group up to the mount point
is read and the tightest value wins. `cpu.py` reads the limits, `pressure.py` what is in use, `memory_kills.py` how
often the kernel killed for memory. The files are described in the kernel's documentation, `admin-guide/cgroup-v1` and
`admin-guide/cgroup-v2`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class CgroupLimits:
    """`cpu_quota` in CPUs (2.5 means 250 ms of CPU per 100 ms) and `memory_bytes`; None where there is no limit."""

    cpu_quota: float | None
    memory_bytes: int | None


@dataclass(frozen=True)
class MemoryUse:
    """Bytes in use in the group whose limit is the tightest, without inactive page cache, which the kernel can drop;
    that limit; and the file with the group's pressure, if it has one.
    """

    used_bytes: int
    limit_bytes: int
    pressure: Path | None


@dataclass(frozen=True)
class _Mount:
    """A mounted hierarchy: which part of it is visible (`top`) and where (`point`)."""

    version: int
    controllers: frozenset[str]
    top: PurePosixPath
    point: Path


def read_limits(root: Path = Path("/")) -> CgroupLimits:
    """The tightest limits on this process as `<root>/proc/self/cgroup` and the mounted hierarchies tell them."""
    mounts = list(_mounts(root))
    groups = _groups(root)
    quotas = [_quota(directory, version) for directory, version in _directories(mounts, groups, "cpu")]
    limits = [_memory(directory, version) for directory, version in _directories(mounts, groups, "memory")]
    return CgroupLimits(
        min((quota for quota in quotas if quota is not None), default=None),
        min((limit for limit in limits if limit is not None), default=None),
    )


def read_memory_use(root: Path = Path("/")) -> MemoryUse | None:
    """What the group with the tightest memory limit uses now; None where no limit holds or it cannot be read."""
    found = [
        (limit, directory, version)
        for directory, version in _directories(list(_mounts(root)), _groups(root), "memory")
        if (limit := _memory(directory, version)) is not None
    ]
    if not found:
        return None
    limit, directory, version = min(found, key=lambda item: item[0])
    usage = "".join(_words(directory / ("memory.current" if version == 2 else "memory.usage_in_bytes")))
    if not usage.isdigit():
        return None
    name = "inactive_file" if version == 2 else "total_inactive_file"
    stat = dict(line.split(" ", 1) for line in _lines(directory / "memory.stat") if " " in line)
    pressure = directory / "memory.pressure"
    used = max(0, int(usage) - int(stat.get(name, "0")))
    return MemoryUse(used, limit, pressure if pressure.is_file() else None)


def oom_kill_counter(pid: int, root: Path = Path("/")) -> Path | None:
    """The file that counts the kernel's kills for memory in the group of process `pid`; None where there is none.

    Version 2 counts the groups below too (`memory.events`), version 1 the group alone (`memory.oom_control`).
    """
    for directory, version in _directories(list(_mounts(root)), _groups(root, str(pid)), "memory"):
        counter = directory / ("memory.events" if version == 2 else "memory.oom_control")
        if read_oom_kills(counter) is not None:
            return counter
    return None


def read_oom_kills(counter: Path) -> int | None:
    """The count in a file that `oom_kill_counter` found, or in `/proc/vmstat`; None when it is not told."""
    counts = dict(line.split(" ", 1) for line in _lines(counter) if " " in line)
    return int(counts["oom_kill"]) if counts.get("oom_kill", "").isdigit() else None


def _directories(
    mounts: Iterable[_Mount], groups: Mapping[str, PurePosixPath], controller: str
) -> Iterator[tuple[Path, int]]:
    """Every directory whose limits of `controller` hold for this process, with the version of its hierarchy."""
    for mount in mounts:
        own = groups.get("" if mount.version == 2 else controller)
        if own is not None and (mount.version == 2 or controller in mount.controllers):
            for directory in _ancestry(mount, own):
                yield directory, mount.version


def _ancestry(mount: _Mount, own: PurePosixPath) -> Iterator[Path]:
    """The group's directory and its parents up to the mount point.

    Inside a container the path is often told as the host sees it while only the container's own part is mounted: then
    the mount point itself is the group.
    """
    inside = own.relative_to(mount.top) if own.is_relative_to(mount.top) and ".." not in own.parts else PurePosixPath()
    directory = mount.point.joinpath(*inside.parts)
    yield directory
    while directory != mount.point:
        directory = directory.parent
        yield directory


def _quota(directory: Path, version: int) -> float | None:
    if version == 2:
        quota, period = [*_words(directory / "cpu.max"), "", ""][:2]
    else:
        quota = "".join(_words(directory / "cpu.cfs_quota_us"))
        period = "".join(_words(directory / "cpu.cfs_period_us"))
    if quota.isdigit() and period.isdigit() and int(period) > 0:  # "max" and -1 mean no limit
        return int(quota) / int(period)
    return None


def _memory(directory: Path, version: int) -> int | None:
    # Above memory.high the kernel stalls the process while it reclaims, so it is a limit for whoever plans memory.
    names = ("memory.max", "memory.high") if version == 2 else ("memory.limit_in_bytes",)
    values = ("".join(_words(directory / name)) for name in names)
    return min((int(value) for value in values if value.isdigit()), default=None)


def _groups(root: Path, process: str = "self") -> dict[str, PurePosixPath]:
    """The process's group by controller; version 2 has the empty name."""
    groups = {}
    for line in _lines(root / "proc" / process / "cgroup"):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        for controller in controllers.split(","):
            groups[controller] = PurePosixPath(path or "/")
    return groups


def _mounts(root: Path) -> Iterator[_Mount]:
    for line in _lines(root / "proc/self/mountinfo"):
        before, separator, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if separator and len(fields) >= 5 and len(kind) >= 3 and kind[0] in {"cgroup", "cgroup2"}:
            yield _Mount(
                version=2 if kind[0] == "cgroup2" else 1,
                controllers=frozenset(kind[2].split(",")),
                top=PurePosixPath(_unescape(fields[3])),
                point=root / _unescape(fields[4]).lstrip("/"),
            )


def _unescape(field: str) -> str:
    """Mount tables write blanks as octal (`\\040`)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _lines(path: Path) -> list[str]:
    # A controller that is not enabled has no file, and some sandboxes hide these files: both mean "no limit known".
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
