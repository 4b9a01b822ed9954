"""Pressure is read from PSI and the control group, and makes the memory manager give back or relax."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from corelane.machine.memory import MemoryManager
from corelane.machine.pressure import Pressure, PressureWatch, read_pressure
from tests.machine.trees import write_tree

MIB = 1 << 20
PSI = "some avg10={}  avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
V2 = {
    "proc/self/cgroup": "0::/job\n",
    "proc/self/mountinfo": "30 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    "sys/fs/cgroup/job/memory.max": f"{100 * MIB}\n",
    "sys/fs/cgroup/job/memory.current": f"{95 * MIB}\n",
    "sys/fs/cgroup/job/memory.stat": f"anon 1\ninactive_file {20 * MIB}\n",
}
V1 = {
    "proc/self/cgroup": "4:memory:/job\n",
    "proc/self/mountinfo": "30 1 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
    "sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{100 * MIB}\n",
    "sys/fs/cgroup/memory/job/memory.usage_in_bytes": f"{95 * MIB}\n",
    "sys/fs/cgroup/memory/job/memory.stat": f"total_inactive_file {2 * MIB}\n",
}


def test_stalls_of_the_machine_where_the_group_tells_none(tmp_path: Path) -> None:
    """/proc/pressure/memory counts when there is no group with a file of its own."""
    write_tree(tmp_path, {"proc/pressure/memory": PSI.format("12.50")})
    assert read_pressure(tmp_path) == Pressure(stalled=0.125, filled=0.0)
    assert read_pressure(tmp_path).is_high


@pytest.mark.parametrize(("tree", "filled"), [(V2, 0.75), (V1, 0.93)])
def test_the_group_counts_without_the_cache_that_can_be_dropped(
    tmp_path: Path, tree: dict[str, str], filled: float
) -> None:
    """Both versions of control groups: use without inactive files, over the limit."""
    write_tree(tmp_path, tree)
    assert read_pressure(tmp_path).filled == pytest.approx(filled)


def test_the_groups_own_stalls_win_over_the_machines(tmp_path: Path) -> None:
    """A group that is short of memory on a machine that is not, and the other way round."""
    own = {"sys/fs/cgroup/job/memory.pressure": PSI.format("40.00"), "proc/pressure/memory": PSI.format("0.00")}
    write_tree(tmp_path, {**V2, **own})
    assert read_pressure(tmp_path).stalled == pytest.approx(0.4)


def test_what_cannot_be_read_is_no_pressure(tmp_path: Path) -> None:
    """Kernels and sandboxes without these files: nothing is known, nothing is asked."""
    assert read_pressure(tmp_path) == Pressure(0.0, 0.0)


def test_this_machine_can_be_read() -> None:
    """The real files give shares."""
    pressure = read_pressure()
    assert 0.0 <= pressure.stalled <= 1.0
    assert 0.0 <= pressure.filled <= 1.5


def test_a_high_reading_relieves_and_a_calm_one_relaxes() -> None:
    """The watch frees idle buffers at a high reading, tells how much, and lets limits rise again afterwards."""
    manager = MemoryManager(1, limit_bytes=100 * MIB)
    manager.release(manager.allocate_tensor((4 * MIB,), np.uint8))
    readings = [Pressure(0.5, 0.0), Pressure(0.0, 0.0), Pressure(0.0, 0.0), Pressure(0.0, 0.0), Pressure(0.0, 0.0)]
    told: list[int] = []
    with PressureWatch(
        manager,
        read=lambda: readings.pop(0),
        interval_s=3600.0,
        tell=lambda pressure, freed_bytes: told.append(freed_bytes),
    ) as watch:
        watch.look()
        assert told == [4 * MIB]
        assert manager.pool("data").usage.limit_bytes < 30 * MIB
        while readings:
            watch.look()
    assert manager.pool("data").usage.limit_bytes == 30 * MIB


def test_the_watch_looks_by_itself_until_it_is_closed() -> None:
    """The thread reads at its interval, and ends with `close`."""
    seen = threading.Event()

    def read() -> Pressure:
        seen.set()
        return Pressure(0.0, 0.0)

    watch = PressureWatch(MemoryManager(1, limit_bytes=MIB), read=read, interval_s=0.001)
    assert seen.wait(timeout=10.0)
    watch.close()
    watch.close()
