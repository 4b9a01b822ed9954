"""`TieredCache`: memory in front of local disk in front of shared storage, as one tier.

A `Buffer` is a policy over two tiers and keeps nothing itself. Values are written through: what is put lies at once in
every tier that takes it, so a tier gives an entry up without a write, also when memory is short and nothing may be
allocated, and a process that dies loses nothing that others could use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from corelane.observe.metrics import MetricsCollector
from corelane.store.tiers.tier import Arrays, CacheTier, NoTier, TierCounts, TierMeter

_TOTALS = {
    "hits": "corelane_cache_hits_total",
    "misses": "corelane_cache_misses_total",
    "evictions": "corelane_cache_evictions_total",
    "broken": "corelane_cache_broken_entries_total",
}


class Buffer:
    """Two tiers as one. What is found in `slow` only is copied to `fast`; no lock is held over either.

    Races: two threads that miss in `fast` at a time both ask `slow` and both put, which is the same value twice; a
    value removed while another thread copies it to `fast` may stay there.
    """

    def __init__(self, fast: CacheTier, slow: CacheTier) -> None:
        self.fast = fast
        self.slow = slow

    def get(self, key: str) -> Arrays | None:
        """See `CacheTier.get`."""
        found = self.fast.get(key)
        if found is not None:
            return found
        found = self.slow.get(key)
        if found is not None:
            self.fast.put(key, found)
        return found

    def put(self, key: str, arrays: Arrays) -> bool:
        """See `CacheTier.put`: kept where one of both keeps it."""
        is_slow = self.slow.put(key, arrays)
        return self.fast.put(key, arrays) or is_slow

    def remove(self, key: str) -> None:
        """See `CacheTier.remove`; the slow one first, so that it is not copied back."""
        self.slow.remove(key)
        self.fast.remove(key)

    def close(self) -> None:
        """Close both."""
        self.fast.close()
        self.slow.close()


class TieredCache(Buffer):
    """The three tiers: L1 in this process, L2 on its machine, L3 for all machines. An absent one is a `NoTier`."""

    def __init__(self, memory: CacheTier, disk: CacheTier, shared: CacheTier | None = None) -> None:
        super().__init__(memory, Buffer(disk, shared or NoTier()))


def watch_tier(metrics: MetricsCollector, name: str, meter: TierMeter, read_bytes: Callable[[], int]) -> None:
    """Show the counts and bytes of a tier, called `name` (memory, disk or shared), in each exposition of `metrics`."""
    metrics.watch("corelane_cache_size_bytes", read_bytes, name)
    for field in fields(TierCounts):
        metrics.watch(_TOTALS[field.name], _reading(meter, field.name), name)


def _reading(meter: TierMeter, field: str) -> Callable[[], float]:
    return lambda: float(getattr(meter.counts, field))
