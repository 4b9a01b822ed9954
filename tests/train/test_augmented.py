"""Augmented batches from disk: the same bytes as drawn anew, whole epochs only, and no run that a disk can stop."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corelane.core.errors import InterruptedRunError
from corelane.store.tiers.arrays import write_arrays
from corelane.store.tiers.disk import DiskTier
from corelane.train.augment import Augmenter
from corelane.train.config import AugmentConfig, TrainConfig
from tests.train.examples import classification, dropout_net, picture_net, pictures, run, weights

PICTURES = AugmentConfig(flip=0.5, shift=1, cutout=2, mixup=0.4, cutmix=1.0, cache=True)
EPOCHS = 3


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs of the batches that were drawn."""
    epochs: list[int] = []
    original = Augmenter.apply

    def noted(self: Augmenter, inputs: Any, target: Any, indices: Any, epoch: int) -> Any:
        epochs.append(epoch)
        return original(self, inputs, target, indices, epoch)

    monkeypatch.setattr(Augmenter, "apply", noted)
    return epochs


def _train(folder: Path, disk: DiskTier | None, augment: AugmentConfig = PICTURES, **options: Any) -> dict[str, bytes]:
    net = picture_net()
    run(folder, pictures(), net, disk=disk, augment=augment, epochs=EPOCHS, **options)
    return weights(net)


def test_kept_batches_train_the_same_bytes(tmp_path: Path, drawn: list[int]) -> None:
    """Recording changes nothing; a second run takes every epoch from disk, and ends with the same weights."""
    disk = DiskTier(tmp_path / "cache")
    calm = _train(tmp_path / "calm", None)
    assert _train(tmp_path / "first", disk) == calm
    assert len(list((tmp_path / "cache" / "augmented").iterdir())) == EPOCHS
    drawn.clear()
    assert _train(tmp_path / "second", disk) == calm
    assert drawn == []


def test_tables_and_soft_targets_too(tmp_path: Path, drawn: list[int]) -> None:
    """Noise and swapping of numbers, and the targets that mixing makes, come back as they were."""
    disk = DiskTier(tmp_path / "cache")
    augment = AugmentConfig(noise=0.2, swap=0.2, mixup=0.2, cache=True)
    ends = []
    for name, tier in (("calm", None), ("first", disk), ("second", disk)):
        net = dropout_net()
        run(tmp_path / name, classification(), net, disk=tier, augment=augment, epochs=EPOCHS)
        ends.append(weights(net))
    assert ends[0] == ends[1] == ends[2]


@pytest.mark.parametrize(
    "change", [{"seed": 8}, {"batch_size": 16}, {"augment": PICTURES.model_copy(update={"shift": 2})}]
)
def test_whatever_matters_makes_other_entries(tmp_path: Path, drawn: list[int], change: dict[str, Any]) -> None:
    """Another seed, batch size or augmentation draws anew."""
    disk = DiskTier(tmp_path / "cache")
    _train(tmp_path / "first", disk)
    drawn.clear()
    _train(tmp_path / "second", disk, **change)
    assert drawn
    assert len(list((tmp_path / "cache" / "augmented").iterdir())) == 2 * EPOCHS


def test_off_unless_asked_for(tmp_path: Path) -> None:
    """Without `cache` nothing is written, and whether it is set is no other configuration to a resume."""
    off = PICTURES.model_copy(update={"cache": False})
    _train(tmp_path / "run", DiskTier(tmp_path / "cache"), augment=off)
    assert not (tmp_path / "cache").exists()
    assert TrainConfig(augment=off).digest == TrainConfig(augment=PICTURES).digest
    assert AugmentConfig(cache=True).is_off


@pytest.mark.parametrize("stops", [3, 7, 12])
def test_an_interrupted_epoch_is_not_kept(tmp_path: Path, stops: int) -> None:
    """A run that stops in the middle of an epoch leaves whole epochs only; resumed, it ends with the same weights."""
    calm = _train(tmp_path / "calm", None)
    told: list[str] = []
    disk, count = DiskTier(tmp_path / "cache", tell=lambda event, _: told.append(event)), iter(range(1, 1000))
    with pytest.raises(InterruptedRunError):
        _train(tmp_path / "run", disk, should_stop=lambda: next(count) == stops)
    assert told == [], "to stop is not the disk's fault"
    entries = list((tmp_path / "cache" / "augmented").iterdir())
    assert [entry for entry in entries if entry.name.endswith(".tmp")] == []
    assert len(entries) == stops // 5
    assert _train(tmp_path / "run", disk, resume=True) == calm
    assert _train(tmp_path / "again", disk) == calm


def test_an_epoch_that_another_run_keeps_first_ends_the_recording_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that found no entry, and finds one when it begins to record, trains on what it draws."""
    disk, missed = DiskTier(tmp_path / "cache"), DiskTier.get

    def late(self: DiskTier, key: str) -> Any:
        found = missed(self, key)
        self.open_or_build(*key.split("/"), lambda folder: write_arrays(folder, {"0": np.zeros(1)})).hold.release()
        return found

    calm = _train(tmp_path / "calm", None)
    monkeypatch.setattr(DiskTier, "get", late)
    assert _train(tmp_path / "run", disk) == calm


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB: one epoch is about 45 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.needs("mount")
def test_a_full_disk_ends_the_recording_and_not_the_run(tmp_path: Path, small_disk: Path) -> None:
    """What finds no room is not kept; the weights are the same, and nothing is left half written."""
    (small_disk / "ballast").write_bytes(bytes(40 << 10))
    told: list[tuple[str, Any]] = []
    calm = _train(tmp_path / "calm", None)
    disk = DiskTier(small_disk / "cache", tell=lambda *event: told.append(event))
    assert _train(tmp_path / "run", disk) == calm
    reasons = {fields["reason"] for event, fields in told if event == "cache_not_kept"}
    assert reasons
    assert all("bytes free" in reason or "room for" in reason for reason in reasons), reasons
    assert list((small_disk / "cache" / "augmented").iterdir()) == []
