"""The answers of `corelane cache`: what lies in the tiers that outlive a process, whether it is whole, and clearing it.

The tier in memory goes with its process and has nothing to be asked here; its counts are metrics.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from corelane.app.config import RootConfig, cache_directory, load_root
from corelane.app.tiers import shared_tier
from corelane.core.errors import BundleError, ConfigError
from corelane.core.types import JsonObject
from corelane.data.spool import FOLDER as SPOOL
from corelane.machine.config import MachineConfig
from corelane.store.durable import remove_temporaries
from corelane.store.entry import EntryPlace, entry_bytes, evict_entry, is_in_use, last_used_ns
from corelane.store.hold import hold, sweep_locks
from corelane.store.seal import verify_anew
from corelane.store.tiers.disk import LOCKS, DiskTier
from corelane.store.tiers.room import KINDS
from corelane.store.tiers.shared import SharedTier

DISK, SHARED = "disk", "shared"
TIERS = (DISK, SHARED)


class CacheTiers:
    """The tiers that a command looks at: those of a configuration, or the default ones; `cache` replaces the directory.

    Raises `ConfigError` for a tier that is unknown or not configured.
    """

    def __init__(
        self, config: Path | None = None, overrides: Sequence[str] = (), *, cache: Path | None, tier: str | None
    ) -> None:
        if tier not in (None, *TIERS):
            raise ConfigError(
                f"--tier must be one of {', '.join(TIERS)}, got {tier!r}; the memory tier ends with a run"
            )
        root = load_root(config, overrides) if config is not None else None
        machine = MachineConfig() if root is None else root.machine
        directory = cache or cache_directory(root or RootConfig(name="cache"))
        shared = shared_tier(machine)
        if tier == SHARED and shared is None:
            raise ConfigError(
                "--tier shared must have machine.cache_shared, got none; give a configuration that sets it"
            )
        self.disk = DiskTier(directory, machine.cache_disk_bytes) if tier != SHARED else None
        self.shared = shared if tier != DISK else None


def stats(tiers: CacheTiers) -> JsonObject:
    """Entries and bytes, by tier and kind, with the bound and the times of use."""
    answers = []
    if tiers.disk is not None:
        answers.append(_disk_stats(tiers.disk))
    if tiers.shared is not None:
        answers.append(_shared_stats(tiers.shared))
    return {"tiers": answers}


def verify(tiers: CacheTiers, *, repair: bool) -> JsonObject:
    """Hash everything again; what is broken is named, and with `repair` removed: it is made anew when needed."""
    broken: list[JsonObject] = []
    num_entries = num_bytes = 0
    if tiers.disk is not None:
        for place in tiers.disk.room.places():
            size, found = entry_bytes(place.path), _flaw(place)
            if not os.path.lexists(place.path):
                continue  # it was evicted since it was listed
            num_entries, num_bytes = num_entries + 1, num_bytes + size
            if found is not None:
                broken.append(_broken(DISK, _name(place), found, is_removed=repair and evict_entry(place)))
    if tiers.shared is not None:
        for name, size in tiers.shared.entries().items():
            num_entries, num_bytes = num_entries + 1, num_bytes + size
            found = tiers.shared.check(name)
            if found is not None:
                broken.append(_broken(SHARED, name, found, is_removed=repair and tiers.shared.discard(name)))
    return {"num_entries": num_entries, "num_bytes": num_bytes, "broken": broken}


def _flaw(place: EntryPlace) -> BundleError | None:
    """What is wrong with an entry of the disk tier, which is not evicted while it is hashed."""
    held = hold(place.path)
    try:
        verify_anew(place.path, place.kind, place.seal, now_s=time.time())
    except BundleError as error:
        return error
    finally:
        if held is not None:
            held.release()
    return None


def clear(tiers: CacheTiers) -> JsonObject:
    """Remove every entry that no process uses, and what killed processes left."""
    num_entries = num_bytes = 0
    kept: list[str] = []
    if tiers.disk is not None:
        before = tiers.disk.usage
        tiers.disk.room.evict(math.inf)
        kept = [_name(place) for place in tiers.disk.room.places()]
        after = tiers.disk.usage
        num_entries, num_bytes = before.num_entries - after.num_entries, before.num_bytes - after.num_bytes
        for folder in (*KINDS, SPOOL, *(f"seals/{kind}" for kind in KINDS)):
            remove_temporaries(tiers.disk.directory / folder)
        sweep_locks(tiers.disk.directory / LOCKS)
    if tiers.shared is not None:
        for name, size in tiers.shared.entries().items():
            if tiers.shared.discard(name):
                num_entries, num_bytes = num_entries + 1, num_bytes + size
    return {"num_removed": num_entries, "num_bytes": num_bytes, "in_use": kept}


def _disk_stats(disk: DiskTier) -> JsonObject:
    places: dict[str, list[EntryPlace]] = {}
    for place in disk.room.places():
        places.setdefault(place.path.parent.name, []).append(place)
    kinds = [
        {
            "kind": kind,
            "num_entries": len(found),
            "num_bytes": sum(entry_bytes(place.path) for place in found),
            "num_in_use": sum(is_in_use(place.path) for place in found),
            "last_used": _time(max(last_used_ns(place.path) for place in found)),
        }
        for kind, found in sorted(places.items())
    ]
    return _tier(DISK, str(disk.directory), disk.room.limit_bytes, kinds)


def _shared_stats(shared: SharedTier) -> JsonObject:
    kinds: dict[str, JsonObject] = {}
    for name, size in shared.entries().items():
        kind = name.partition("/")[0]
        entry = kinds.setdefault(kind, {"kind": kind, "num_entries": 0, "num_bytes": 0})
        entry["num_entries"] += 1
        entry["num_bytes"] += size
    return _tier(SHARED, shared.url, None, [kinds[kind] for kind in sorted(kinds)])


def _tier(name: str, where: str, limit_bytes: int | None, kinds: list[JsonObject]) -> JsonObject:
    totals = {key: sum(kind[key] for kind in kinds) for key in ("num_entries", "num_bytes")}
    return {"tier": name, "where": where, **totals, "limit_bytes": limit_bytes, "kinds": kinds}


def _broken(tier: str, entry: str, error: BundleError, *, is_removed: bool) -> JsonObject:
    return {"tier": tier, "entry": entry, "reason": error.message, "is_removed": is_removed}


def _name(place: EntryPlace) -> str:
    return f"{place.path.parent.name}/{place.path.name}"


def _time(used_ns: int) -> str:
    return datetime.fromtimestamp(used_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
