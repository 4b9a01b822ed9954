"""A real control group with a quota of CPU time; version 1 and version 2 of the kernel's interface."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000


@contextmanager
def cpu_group(cpus: float) -> Iterator[Path]:
    """The directory of a group whose processes may use `cpus` CPUs; gone with the block. Needs root."""
    is_v1 = (_ROOT / "cpu" / "cpu.cfs_quota_us").exists()
    group = (_ROOT / "cpu" if is_v1 else _ROOT) / f"corelane-test-{uuid.uuid4().hex}"
    group.mkdir()
    quota = str(round(cpus * _PERIOD_US))
    try:
        if is_v1:
            (group / "cpu.cfs_quota_us").write_text(quota)
        else:
            (group / "cpu.max").write_text(f"{quota} {_PERIOD_US}")
        yield group
    finally:
        group.rmdir()


def throttled(group: Path) -> tuple[int, int]:
    """Periods in which something ran in `group`, and those in which it had used its quota up and stood still."""
    facts = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return int(facts["nr_periods"]), int(facts["nr_throttled"])


def can_limit_cpu() -> bool:
    """Whether this process may make such a group."""
    try:
        with cpu_group(1.0):
            return True
    except OSError:
        return False
