"""What processes use: resident memory, CPU time and CPUs, and whether one is stopped. Log lines, gauges, the server and
the watch over a trainer call these; nothing is cached.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_STATM = Path("/proc/self/statm")
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """Bytes of this process that are in RAM now (RSS), shared pages counted whole."""
    return int(_STATM.read_bytes().split()[1]) * _PAGE_BYTES


def cpu_seconds() -> float:
    """Seconds of CPU that all threads of this process have used since it started, user and system."""
    return time.process_time()


def num_cpus() -> int:
    """CPUs that this process may run on, as its affinity says."""
    return len(os.sched_getaffinity(0))


def tree_cpu_seconds(pid: int) -> float:
    """Seconds of CPU of process `pid`, of what it started and still runs, and of what it has waited for."""
    return sum(_cpu_ticks(process) for process in _tree(pid)) * _TICK_S


def is_stopped(pid: int) -> bool:
    """Whether process `pid` was stopped (SIGSTOP, a debugger) and not yet told to go on."""
    return _stat(pid)[:1] in (["T"], ["t"])


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path("/proc", str(pid), "task").glob("*/children"):
        with suppress(OSError):  # of a thread that has just ended
            for child in children.read_text().split():
                yield from _tree(int(child))


def _cpu_ticks(pid: int) -> int:
    return sum(map(int, _stat(pid)[11:15]))  # utime, stime, cutime, cstime of proc(5)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on; none when the process is gone."""
    with suppress(OSError):
        text = Path("/proc", str(pid), "stat").read_text()
        return text.rpartition(")")[2].split()  # the name before may hold blanks
    return []
