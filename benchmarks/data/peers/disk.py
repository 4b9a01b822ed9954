"""The disk itself: the same files read from first to last byte, with nothing of them in memory."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.data.cases import Case
from benchmarks.data.pages import drop_from_cache

_READ_BYTES = 1 << 20


def run(case: Case, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Megabytes per second."""
    del case
    paths = [Path(inputs["arrays"], name) for name in ("0.npy", "target.npy")]
    drop_from_cache(paths)
    buffer, num_bytes = bytearray(_READ_BYTES), 0
    start = time.perf_counter()
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while count := os.readv(descriptor, [buffer]):
                num_bytes += count
        finally:
            os.close(descriptor)
    return {"value": num_bytes / (time.perf_counter() - start) / 1e6}
