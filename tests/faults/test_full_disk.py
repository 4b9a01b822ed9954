"""A disk that fills up, for real: a small tmpfs. A save that does not fit loses nothing; the run goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from corelane.app import train as train_here
from corelane.core.errors import DiskFullError
from corelane.store.bundle import verify_bundle

CONFIG = {
    "name": "full",
    "data": {"target": "y"},
    "model": {"hidden": [256, 256]},
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
