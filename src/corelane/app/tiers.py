"""The cache of a process: its tiers as configured, seen in the log and the metrics."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from corelane.app.config import RootConfig, cache_directory
from corelane.app.source_places import expand
from corelane.machine.config import MachineConfig
from corelane.machine.memory import MemoryManager
from corelane.observe.log import SystemLogger
from corelane.store.cache import TieredCache, watch_tier
from corelane.store.tiers.archive import Archive, NoArchive
from corelane.store.tiers.disk import DiskTier
from corelane.store.tiers.memory import MemoryTier
from corelane.store.tiers.tier import NoTier, Tell, tell_nobody

if TYPE_CHECKING:
    from corelane.store.tiers.shared import SharedTier

TROUBLE = frozenset(
    {"cache_not_kept", "cache_not_read", "cache_entry_broken", "cache_waited_too_long", "cache_shared_failed"}
)
"""What a user should hear of; the rest is for the log."""


def memory_tier(machine: MachineConfig, memory: MemoryManager, logger: SystemLogger) -> MemoryTier:
    """What this process keeps in memory (L1), accounted for in `memory`."""
    tier = MemoryTier(memory, machine.cache_memory_bytes)
    watch_tier(logger.metrics_collector, "memory", tier.meter, lambda: tier.usage.num_bytes)
    return tier


def disk_tier(root: RootConfig, logger: SystemLogger) -> DiskTier:
    """The cache directory of this machine (L2), with the shared tier behind it where one is configured."""
    return _disk_tier(root, logger, archive_of(root.machine, logger))


def lasting_tiers(root: RootConfig, logger: SystemLogger) -> TieredCache:
    """What outlives a process, as one tier: the cache directory in front of shared storage."""
    shared = _watched_shared_tier(root.machine, logger)
    return TieredCache(NoTier(), _disk_tier(root, logger, shared or NoArchive()), shared)


def archive_of(machine: MachineConfig, logger: SystemLogger) -> Archive:
    """The storage that machines share (L3), or none."""
    return _watched_shared_tier(machine, logger) or NoArchive()


def _disk_tier(root: RootConfig, logger: SystemLogger, archive: Archive) -> DiskTier:
    limit_bytes = root.machine.cache_disk_bytes
    tier = DiskTier(cache_directory(root), limit_bytes, archive=archive, tell=_teller(logger))
    watch_tier(logger.metrics_collector, "disk", tier.meter, lambda: tier.room.counted_bytes)
    return tier


def _watched_shared_tier(machine: MachineConfig, logger: SystemLogger) -> SharedTier | None:
    tier = shared_tier(machine, _teller(logger))
    if tier is not None:
        watch_tier(logger.metrics_collector, "shared", tier.meter, lambda: tier.num_bytes)
    return tier


def shared_tier(machine: MachineConfig, tell: Tell = tell_nobody) -> SharedTier | None:
    """The configured shared tier. Raises `ConfigError` for a URL that cannot be, or a variable that is not set."""
    if machine.cache_shared is None:
        return None
    from corelane.store.tiers.shared import SharedTier  # noqa: PLC0415 - fsspec only where it is used

    url = expand(machine.cache_shared, os.environ, "machine.cache_shared")
    options = expand(machine.cache_shared_options, os.environ, "machine.cache_shared_options")
    return SharedTier(url, options, tell=tell)


def _teller(logger: SystemLogger) -> Tell:
    def tell(event: str, fields: Mapping[str, Any]) -> None:
        (logger.data.warning if event in TROUBLE else logger.data.info)(event, **fields)

    return tell
