"""A kill for memory is told from any other, by the kernel's own counts: a real limited group, and made-up trees."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from corelane.core.clock import ManualClock
from corelane.machine.memory_kills import VICTIM_SCORE, MemoryKills, offer_as_victim
from tests.faults.memory_group import memory_group
from tests.machine.trees import write_tree

HOG = "x = []\nwhile True: x.append(bytearray(1 << 20))"


@pytest.mark.needs("memory-group")
def test_a_real_kill_for_memory_is_known() -> None:
    """A process in a group of 64 MiB that takes more."""
    with memory_group(64 << 20) as group:
        argv = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group.path / "cgroup.procs"), sys.executable, "-c", HOG]
        with subprocess.Popen(argv) as process:
            kills = MemoryKills(process.pid)
            while process.poll() is None:
                kills.note()
                time.sleep(0.005)
    assert process.returncode == -9
    assert kills.cause() == "memory"


def test_a_plain_kill_is_no_kill_for_memory() -> None:
    """Somebody's SIGKILL raises no count of the kernel."""
    with subprocess.Popen(["sleep", "60"]) as process:
        kills = MemoryKills(process.pid)
        process.kill()
    assert kills.cause() in {"other", "unknown"}  # unknown: a sandbox may hide the counts


def _tree(root: Path, group_kills: int, machine_kills: int) -> None:
    write_tree(
        root,
        {
            "proc/7/cgroup": "0::/box\n",
            "proc/self/mountinfo": "30 29 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            "proc/vmstat": f"nr_free_pages 5\noom_kill {machine_kills}\n",
            "sys/fs/cgroup/box/memory.events": f"low 0\noom 9\noom_kill {group_kills}\n",
        },
    )


@pytest.mark.parametrize(("after", "cause"), [((2, 3), "memory"), ((1, 4), "other"), ((1, 3), "other")])
def test_the_group_is_the_witness(tmp_path: Path, after: tuple[int, int], cause: str) -> None:
    """Its count that rose is a kill for memory; one elsewhere on the machine, or none, leaves it somebody's kill."""
    _tree(tmp_path, 1, 3)
    kills = MemoryKills(7, tmp_path)
    _tree(tmp_path, *after)
    assert kills.cause() == cause


@pytest.mark.parametrize(("after", "cause"), [(4, "memory"), (3, "other")])
def test_without_a_group_the_machine_is_the_witness(tmp_path: Path, after: int, cause: str) -> None:
    """There its count has to do."""
    _tree(tmp_path, 1, 3)
    (tmp_path / "proc/7/cgroup").unlink()
    kills = MemoryKills(7, tmp_path)
    _tree(tmp_path, 1, after)
    assert kills.cause() == cause


@pytest.mark.parametrize(("age_s", "cause"), [(0, "memory"), (4, "memory"), (11, "other")])
def test_only_a_count_that_rose_just_now_is_meant(tmp_path: Path, age_s: int, cause: str) -> None:
    """A kill for memory of another process in the group, earlier in the run, explains no kill by hand."""
    clock = ManualClock()
    _tree(tmp_path, 1, 3)
    kills = MemoryKills(7, tmp_path, clock)
    for second in range(60):
        clock.advance(1.0)
        if second == 59 - age_s:
            _tree(tmp_path, 2, 3)
        kills.note()
    assert kills.cause() == cause


def test_nothing_to_read_is_unknown(tmp_path: Path) -> None:
    """Where neither file is there, nothing is claimed."""
    assert MemoryKills(7, tmp_path).cause() == "unknown"


def test_a_child_is_offered_before_its_parent() -> None:
    """The kernel's score of the child is raised above ours."""
    own = int(Path("/proc/self/oom_score_adj").read_text())
    with subprocess.Popen(["sleep", "60"]) as process:
        offer_as_victim(process.pid)
        score = int(Path(f"/proc/{process.pid}/oom_score_adj").read_text())
        process.kill()
    assert score == min(1000, own + VICTIM_SCORE)
    offer_as_victim(process.pid)  # gone: nothing happens
