"""Tiers in front of tiers: found values move forward, put values lie in all, and the counts are metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from corelane.core.types import Array
from corelane.machine.memory import MemoryManager
from corelane.observe.metrics import MetricsCollector
from corelane.store.cache import Buffer, TieredCache, watch_tier
from corelane.store.tiers.disk import DiskTier
from corelane.store.tiers.memory import MemoryTier
from corelane.store.tiers.tier import NoTier

VALUE: dict[str, Array] = {"x": np.arange(100)}


def test_what_was_put_lies_in_both(tmp_path: Path) -> None:
    """Written through: another process finds it in the slow tier at once."""
    memory = MemoryTier(MemoryManager(limit_bytes=10 << 20))
    cache = TieredCache(memory, DiskTier(tmp_path))
    cache.put("one", VALUE)
    assert memory.get("one") is not None
    assert DiskTier(tmp_path).get("one") is not None
    cache.close()


def test_what_only_the_slow_one_has_is_copied_to_the_fast_one(tmp_path: Path) -> None:
    """The second time it comes from the fast tier, and the slow one is not asked."""
    disk = DiskTier(tmp_path)
    disk.put("one", VALUE)
    memory = MemoryTier(MemoryManager(limit_bytes=10 << 20))
    cache = Buffer(memory, disk)
    for _ in range(2):
        found = cache.get("one")
        assert found is not None
        assert found["x"].tolist() == VALUE["x"].tolist()
    assert (memory.meter.counts.hits, memory.meter.counts.misses) == (1, 1)
    assert disk.meter.counts.hits == 1
    cache.close()


def test_a_tier_that_is_off_costs_nothing(tmp_path: Path) -> None:
    """Over a `NoTier` the other one does all."""
    for cache in (Buffer(NoTier(), DiskTier(tmp_path)), Buffer(DiskTier(tmp_path), NoTier())):
        assert cache.put("one", VALUE)
        assert cache.get("one") is not None
        cache.remove("one")
        assert cache.get("one") is None
    assert not Buffer(NoTier(), NoTier()).put("one", VALUE)


def test_counts_and_bytes_are_metrics(tmp_path: Path) -> None:
    """Hits, misses, evictions, broken entries and bytes of each tier stand in the exposition."""
    metrics = MetricsCollector()
    memory, disk = MemoryTier(MemoryManager(limit_bytes=10 << 20), 1000), DiskTier(tmp_path)
    watch_tier(metrics, "memory", memory.meter, lambda: memory.usage.num_bytes)
    watch_tier(metrics, "disk", disk.meter, lambda: disk.room.counted_bytes)
    cache = Buffer(memory, disk)
    cache.put("one", VALUE)
    cache.put("two", VALUE)
    cache.get("two")
    cache.get("one")
    next(tmp_path.glob("arrays/*/0.npy")).unlink()
    cache.get("none")
    text = metrics.render().decode()
    for line in (
        'corelane_cache_hits_total{tier="memory"} 1.0',
        'corelane_cache_misses_total{tier="memory"} 2.0',
        'corelane_cache_evictions_total{tier="memory"} 2.0',
        'corelane_cache_hits_total{tier="disk"} 1.0',
        'corelane_cache_misses_total{tier="disk"} 1.0',
        'corelane_cache_broken_entries_total{tier="disk"} 0.0',
        'corelane_cache_size_bytes{tier="memory"} 800.0',
    ):
        assert line in text, line
    assert f'corelane_cache_size_bytes{{tier="disk"}} {float(disk.room.counted_bytes)}' in text
    cache.close()
