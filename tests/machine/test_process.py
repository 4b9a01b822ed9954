"""What the process tells about itself follows what it really does."""

from __future__ import annotations

import numpy as np

from corelane.machine.process import cpu_seconds, resident_bytes


def test_resident_bytes_grow_with_touched_memory() -> None:
    """64 MiB that are written to appear in the resident size."""
    before = resident_bytes()
    block = np.ones(64 * 2**20, dtype=np.uint8)
    grown = resident_bytes() - before
    assert grown >= 0.9 * block.nbytes


def test_cpu_seconds_count_work() -> None:
    """The count rises by work and never falls."""
    before = cpu_seconds()
    while cpu_seconds() - before < 0.01:
        sum(range(1000))
    assert cpu_seconds() >= before + 0.01
