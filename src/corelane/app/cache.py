"""The cache of a process: its tiers as configured, seen in the log and the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from corelane.app.config import RootConfig, cache_directory
from corelane.observe.log import SystemLogger
from corelane.store.cache import watch_tier
from corelane.store.tiers.disk import DiskTier
from corelane.store.tiers.tier import Tell

TROUBLE = frozenset({"cache_disk_full", "cache_entry_broken", "cache_waited_too_long"})
"""What a user should hear of; the rest is for the log."""


def disk_tier(root: RootConfig, logger: SystemLogger) -> DiskTier:
    """The cache directory of this machine (L2)."""
    tier = DiskTier(cache_directory(root), root.machine.cache_disk_bytes, tell=_teller(logger))
    watch_tier(logger.metrics_collector, "disk", tier.meter, lambda: tier.room.counted_bytes)
    return tier


def _teller(logger: SystemLogger) -> Tell:
    def tell(event: str, fields: Mapping[str, Any]) -> None:
        (logger.data.warning if event in TROUBLE else logger.data.info)(event, **fields)

    return tell
