"""What the current process uses: resident memory and CPU time. Log lines and gauges call these; nothing is cached."""

from __future__ import annotations

import os
import time
from pathlib import Path

_STATM = Path("/proc/self/statm")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """Bytes of this process that are in RAM now (RSS), shared pages counted whole."""
    return int(_STATM.read_bytes().split()[1]) * _PAGE_BYTES


def cpu_seconds() -> float:
    """Seconds of CPU that all threads of this process have used since it started, user and system."""
    return time.process_time()
