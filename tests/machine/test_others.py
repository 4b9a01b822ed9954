"""How busy others keep the CPUs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corelane.machine.others import OthersWatch, own_cpu_seconds

TICKS = os.sysconf("SC_CLK_TCK")


def write(root: Path, *busy_and_idle: tuple[float, float]) -> None:
    """A `/proc/stat` whose CPUs have been busy and idle for so many seconds."""
    lines = ["cpu  0 0 0 0 0 0 0 0 0 0"]
    for cpu, (busy_s, idle_s) in enumerate(busy_and_idle):
        lines.append(f"cpu{cpu} {round(busy_s * TICKS)} 0 0 {round(idle_s * TICKS)} 0 0 0 0 0 0")
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/stat").write_text("\n".join([*lines, "intr 1 2 3", ""]))


def test_what_others_use_is_told_from_our_own(tmp_path: Path) -> None:
    """Of two CPUs, busy for 12 of 20 seconds, we used 8: others had a fifth. A third CPU is not ours to look at."""
    own = iter([5.0, 13.0])
    write(tmp_path, (100, 100), (50, 150), (0, 0))
    watch = OthersWatch((0, 1), tmp_path, own_seconds=lambda: next(own))
    write(tmp_path, (110, 100), (52, 158), (900, 0))
    assert watch.share() == pytest.approx(0.2)


def test_a_system_that_does_not_tell_has_no_others(tmp_path: Path) -> None:
    """Without the file, as in some sandboxes, the share is nought."""
    assert OthersWatch((0,), tmp_path).share() == 0.0


def test_the_real_system_is_read() -> None:
    """Here and now the share is between nothing and all, and our own time is not negative."""
    watch = OthersWatch(tuple(os.sched_getaffinity(0)))
    assert sum(range(10**6)) > 0
    assert 0.0 <= watch.share() <= 1.0
    assert own_cpu_seconds() > 0.0
