"""The memory pools as gauges. `app` and the server's workers call it once for the manager they have made."""

from __future__ import annotations

from collections.abc import Callable

from corelane.machine.memory import MemoryManager, MemoryPool
from corelane.observe.metrics import MetricsCollector

POOL_BYTES = "corelane_system_pool_bytes"
STATES = ("used", "idle", "limit")


def watch_pools(metrics: MetricsCollector, manager: MemoryManager) -> None:
    """Show what every pool of `manager` holds, and its limit, in each exposition of `metrics`."""
    for name, pool in manager.memory_pools.items():
        for state in STATES:
            metrics.watch(POOL_BYTES, _reading(pool, f"{state}_bytes"), name, state)


def _reading(pool: MemoryPool, field: str) -> Callable[[], float]:
    return lambda: float(getattr(pool.usage, field))
