"""Processes under a quota of CPU time: a control group of their own, and how often the kernel held it up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from benchmarks.measure import BenchmarkError

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000  # the kernel's default, and Kubernetes'


def throttled(group: Path) -> tuple[int, int]:
    """Periods in which something ran in `group`, and those of them in which it stood still, the quota being used up."""
    facts = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return int(facts["nr_periods"]), int(facts["nr_throttled"])


@contextmanager
def cpu_quota(cpus: float, root: Path = ROOT) -> Iterator[Path]:
    """A fresh control group that may use `cpus` CPUs. Raises `BenchmarkError` where no group can be made."""
    is_v1 = (root / "cpu").is_dir()
    group = (root / "cpu" if is_v1 else root) / f"corelane-benchmark-{token_hex(4)}"
    quota_us = round(cpus * PERIOD_US)
    try:
        group.mkdir()
        if is_v1:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(quota_us))
        else:
            (group / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
    except OSError as error:
        raise BenchmarkError(
            f"a control group with a CPU quota must be there for this case, got {error.strerror} for {group}; "
            "run as root, or leave the case out with --case"
        ) from error
    try:
        yield group
    finally:
        group.rmdir()
