"""The tiers of a process are those of its configuration, and are seen in its metrics and its log."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corelane.app.config import RootConfig, from_values
from corelane.app.tiers import archive_of, disk_tier, lasting_tiers, memory_tier, shared_tier
from corelane.core.errors import ConfigError
from corelane.machine.memory import MemoryManager
from corelane.observe.log import SystemLogger
from corelane.store.tiers.archive import NoArchive

VALUE = {"x": np.arange(1000)}


def _root(folder: Path, **machine: Any) -> RootConfig:
    return from_values({"name": "a", "machine": {"cache": str(folder / "cache"), **machine}}, base=folder)


def test_bounds_are_the_configured_ones(tmp_path: Path) -> None:
    """Sizes are taken as written, and have their defaults; 0 switches the memory tier off."""
    with SystemLogger(stream=io.StringIO()) as logger:
        root = _root(tmp_path, cache_disk_bytes="5MiB", cache_memory_bytes="1MiB")
        assert disk_tier(root, logger).room.limit_bytes == 5 << 20
        assert disk_tier(_root(tmp_path), logger).room.limit_bytes == 10 << 30
        memory = MemoryManager(limit_bytes=100 << 20)
        assert memory_tier(root.machine, memory, logger).limit_bytes == 1 << 20
        assert memory_tier(_root(tmp_path).machine, memory, logger).limit_bytes == 10 << 20
        off = memory_tier(_root(tmp_path, cache_memory_bytes=0).machine, memory, logger)
        assert not off.can_keep(1)
        assert not off.put("one", VALUE)


def test_all_tiers_are_in_the_metrics(tmp_path: Path) -> None:
    """Each tier's counts and bytes stand under its name; what goes wrong is a warning in the log."""
    log = io.StringIO()
    with SystemLogger(stream=log) as logger:
        root = _root(tmp_path, cache_shared=(tmp_path / "shared").as_uri())
        disk = disk_tier(root, logger)
        memory = memory_tier(root.machine, MemoryManager(limit_bytes=100 << 20), logger)
        for tier in (memory, disk, disk.archive):
            assert tier.get("one") is None  # type: ignore[union-attr]
            assert tier.put("one", VALUE)  # type: ignore[union-attr]
        text = logger.metrics_collector.render().decode()
        for name in ("memory", "disk", "shared"):
            assert f'corelane_cache_misses_total{{tier="{name}"}} 1.0' in text
            assert f'corelane_cache_size_bytes{{tier="{name}"}} 0.0' not in text
        next((tmp_path / "cache" / "arrays").glob("*/0.npy")).unlink()
        disk.get("one")
        assert '"level":"warning"' in next(line for line in log.getvalue().splitlines() if "cache_entry_broken" in line)
        memory.close()


def test_lasting_tiers_share_what_was_put(tmp_path: Path) -> None:
    """A value put on one machine is found on another through shared storage."""
    shared = (tmp_path / "shared").as_uri()
    with SystemLogger(stream=io.StringIO()) as logger:
        lasting_tiers(_root(tmp_path / "one", cache_shared=shared), logger).put("graphs/a", VALUE)
        found = lasting_tiers(_root(tmp_path / "two", cache_shared=shared), logger).get("graphs/a")
    assert found is not None
    assert found["x"].tolist() == VALUE["x"].tolist()
    assert [path.name for path in (tmp_path / "two" / "cache" / "graphs").iterdir()] == ["a"]


def test_without_shared_storage_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No URL, no tier; a URL may hold a variable, which must be set."""
    with SystemLogger(stream=io.StringIO()) as logger:
        assert isinstance(archive_of(_root(tmp_path).machine, logger), NoArchive)
    machine = _root(tmp_path, cache_shared="file://${SHARED_HERE}/cache").machine
    with pytest.raises(ConfigError, match="SHARED_HERE must be set"):
        shared_tier(machine)
    monkeypatch.setenv("SHARED_HERE", str(tmp_path))
    tier = shared_tier(machine)
    assert tier is not None
    assert tier.url == f"file://{tmp_path}/cache"
