"""Pools are seen in the exposition as they are when it is taken."""

from __future__ import annotations

import numpy as np

from corelane.machine.memory import MemoryManager
from corelane.machine.pool_metrics import watch_pools
from corelane.observe.metrics import MetricsCollector


def test_every_pool_shows_what_it_holds_and_its_limit() -> None:
    """Used, idle and limit bytes by pool, read anew each time."""
    metrics, manager = MetricsCollector(), MemoryManager(1, limit_bytes=1000_000)
    watch_pools(metrics, manager)
    array = manager.allocate_tensor((64,), np.uint8)
    assert b'corelane_system_pool_bytes{pool="data",state="used"} 64.0' in metrics.render()
    manager.release(array)
    text = metrics.render()
    assert b'corelane_system_pool_bytes{pool="data",state="used"} 0.0' in text
    assert b'corelane_system_pool_bytes{pool="data",state="idle"} 64.0' in text
    assert b'corelane_system_pool_bytes{pool="model",state="limit"} 400000.0' in text
