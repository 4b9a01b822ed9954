"""A disk that fills up, for real: a small tmpfs. A save that does not fit loses nothing; the run goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corelane.app import train as train_here
from corelane.core.errors import DiskFullError
from corelane.store.bundle import verify_bundle

CONFIG = {
    "name": "full",
    "data": {"target": "y"},
    "model": {"net": "mlp", "hidden": [256, 256]},
    "train": {"epochs": 4, "save_interval": 3, "keep_checkpoints": 2},
}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system of 5 MiB: room for about three checkpoints of the net above."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _rows() -> dict[str, Any]:
    x = np.random.default_rng(0).normal(size=(60_000, 24)).astype(np.float32)
    return {"x": x, "y": (x.sum(axis=1) > 0).astype(np.int64)}


@pytest.mark.needs("mount")
def test_a_full_cache_disk_trains_the_same_bytes(tmp_path: Path, small_disk: Path) -> None:
    """A15: Prepared data that do not fit on the cache's disk are kept in memory: told once, and the same weights."""
    ends = []
    for cache in (tmp_path / "cache", small_disk / "cache"):
        config = {**CONFIG, "train": {"epochs": 1}, "machine": {"cache": str(cache)}}
        run = train_here(config, data=_rows(), runs=tmp_path / cache.parent.name, quiet=True)
        ends.append({name: tensor.numpy().tobytes() for name, tensor in run.module.state_dict().items()})
    assert ends[0] == ends[1]
    log = (run.directory / "logs" / "data.jsonl").read_text()
    assert log.count('"cache_disk_full"') == 1
    assert '"kept_in":"memory"' in log


@pytest.mark.needs("mount")
def test_no_room_anywhere_is_told_before_step_0(tmp_path: Path, small_disk: Path) -> None:
    """A15: Where memory may not hold them either, the run ends before its first step, with the bytes needed."""
    config = {**CONFIG, "machine": {"cache": str(small_disk / "cache"), "memory": "16MiB"}}
    with pytest.raises(DiskFullError, match=r"must have \d{7} bytes free for the prepared data"):
        train_here(config, data=_rows(), runs=tmp_path / "runs", quiet=True)
    assert not list((tmp_path / "runs").glob("*/checkpoints/*"))
    assert not list(small_disk.glob("cache/prepared/*"))


@pytest.mark.needs("mount")
def test_a_full_disk_loses_nothing_and_the_run_resumes(tmp_path: Path, small_disk: Path) -> None:
    """Every checkpoint on the full disk is whole; with room again, `resume` ends with the weights of a calm run."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(600, 16)).astype(np.float32)
    data = {"x": x, "y": (x.sum(axis=1) > 0).astype(np.int64)}
    config = {**CONFIG, "machine": {"cache": str(tmp_path / "cache")}}
    calm = train_here(config, data=data, runs=tmp_path / "calm", quiet=True)

    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2 << 20))
    with pytest.raises(DiskFullError, match="--resume"):
        train_here(config, data=data, runs=small_disk / "runs", quiet=True)
    for checkpoint in (small_disk / "runs/full-001/checkpoints").glob("[0-9]*"):
        verify_bundle(checkpoint, "checkpoint")

    ballast.unlink()
    resumed = train_here(config, data=data, runs=small_disk / "runs", resume=True, quiet=True)
    expected = {name: tensor.numpy().tobytes() for name, tensor in calm.module.state_dict().items()}
    assert {name: tensor.numpy().tobytes() for name, tensor in resumed.module.state_dict().items()} == expected
