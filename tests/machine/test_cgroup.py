"""Control group limits are read from version 1, version 2 and both, from the group and everything above it."""

from __future__ import annotations

from pathlib import Path

import pytest

from corelane.machine.cgroup import CgroupLimits, read_limits
from tests.machine.trees import UNLIMITED_V1, v2_files, write_tree


def test_version_2_limits_of_the_own_group(tmp_path: Path) -> None:
    """`cpu.max` becomes CPUs and `memory.max` bytes."""
    write_tree(tmp_path, v2_files("/app", {"app/cpu.max": "250000 100000\n", "app/memory.max": "1073741824\n"}))
    assert read_limits(tmp_path) == CgroupLimits(cpu_quota=2.5, memory_bytes=2**30)


def test_version_2_the_tightest_ancestor_wins(tmp_path: Path) -> None:
    """A limit set on a group above binds as if it were our own."""
    limits = {
        "cpu.max": "max 100000\n",
        "pod/cpu.max": "150000 100000\n",
        "pod/memory.max": "4096000\n",
        "pod/box/cpu.max": "800000 100000\n",
        "pod/box/memory.max": "max\n",
    }
    write_tree(tmp_path, v2_files("/pod/box", limits))
    assert read_limits(tmp_path) == CgroupLimits(cpu_quota=1.5, memory_bytes=4_096_000)


def test_version_2_memory_high_counts_as_a_limit(tmp_path: Path) -> None:
    """Above `memory.high` the kernel stalls the process, so it bounds what may be planned with."""
    write_tree(tmp_path, v2_files("/", {"memory.max": "8000000\n", "memory.high": "6000000\n"}))
    assert read_limits(tmp_path).memory_bytes == 6_000_000


@pytest.mark.parametrize("cpu_max", ["max 100000\n", "max\n", "", "100000 0\n", "garbage here\n"])
def test_version_2_without_a_quota(tmp_path: Path, cpu_max: str) -> None:
    """`max`, and anything that is no quota, is no limit."""
    write_tree(tmp_path, v2_files("/", {"cpu.max": cpu_max}))
    assert read_limits(tmp_path) == CgroupLimits(None, None)


V1_MOUNTS = """\
24 30 0:22 / /sys rw - sysfs sysfs rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""


def test_version_1_beside_an_empty_version_2(tmp_path: Path) -> None:
    """The hybrid layout: limits come from each controller's own hierarchy and path; -1 is no quota."""
    files = {
        "proc/self/mountinfo": V1_MOUNTS,
        "proc/self/cgroup": "4:memory:/box\n3:cpu,cpuacct:/jobs/box\n0::/\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us": "300000\n",
        "sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu,cpuacct/jobs/box/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED_V1,
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "536870912\n",
    }
    assert read_limits(write_tree(tmp_path, files)) == CgroupLimits(cpu_quota=3.0, memory_bytes=2**29)


def test_version_1_in_a_container_that_sees_only_its_own_part(tmp_path: Path) -> None:
    """The path is the host's (`/docker/abc`) but the mount shows that very group: the mount point holds the limits."""
    files = {
        "proc/self/mountinfo": "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n",
        "proc/self/cgroup": "3:cpu:/docker/abc\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }
    assert read_limits(write_tree(tmp_path, files)).cpu_quota == 0.5


@pytest.mark.parametrize("path", ["/../other", "/kubepods/elsewhere"])
def test_a_path_that_is_not_mounted_means_the_mount_point(tmp_path: Path, path: str) -> None:
    """Namespaces can show a path outside of what is mounted; the visible top is then the answer, nothing above."""
    files = v2_files(path, {"cpu.max": "200000 100000\n", "../cpu.max": "100000 100000\n"})
    assert read_limits(write_tree(tmp_path, files)).cpu_quota == 2.0


def test_a_mount_point_with_a_blank_in_its_name(tmp_path: Path) -> None:
    """Mount tables escape blanks; the directory is found all the same."""
    files = {
        "proc/self/mountinfo": "31 23 0:27 / /mnt/c\\040group rw - cgroup2 none rw\n",
        "proc/self/cgroup": "0::/\n",
        "mnt/c group/cpu.max": "400000 100000\n",
    }
    assert read_limits(write_tree(tmp_path, files)).cpu_quota == 4.0


def test_no_control_groups_at_all(tmp_path: Path) -> None:
    """An empty tree has no limits and is no error."""
    assert read_limits(tmp_path) == CgroupLimits(None, None)
