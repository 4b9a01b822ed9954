"""Augmented batches: changed as configured, keyed by (seed, epoch, row), and never the caller's own arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from corelane.core.errors import ConfigError
from corelane.data.pipeline import FeatureSpan, TensorSpec
from corelane.train.augment import Augmenter, NoAugmenter, augmenter_for, cut_out, move
from corelane.train.config import AugmentConfig
from corelane.train.draws import Draws
from tests.train.examples import classification

SPANS = [FeatureSpan("a", True, 0, 1), FeatureSpan("b", True, 1, 2), FeatureSpan("colour", False, 2, 5)]


def pictures(n: int = 32, c: int = 1, side: int = 12) -> Tensor:
    """Positive pixels, each of its own value, so that a moved pixel is recognised."""
    return torch.arange(1, n * c * side * side + 1, dtype=torch.float32).reshape(n, c, side, side)


def features(n: int = 64) -> Tensor:
    """Two numbers and one of three categories, each row of its own numbers."""
    numbers = torch.arange(2 * n, dtype=torch.float32).reshape(n, 2)
    return torch.cat([numbers, torch.eye(3)[torch.arange(n) % 3]], dim=1)


def augmenter(classes: int | None = 3, images: bool = True, tabular: bool = False, **config: Any) -> Augmenter:
    outputs = {"features": TensorSpec("float32", (5,))} if tabular else {}
    outputs |= {"image": TensorSpec("float32", (1, 12, 12))} if images else {}
    spans = SPANS if tabular else []
    return Augmenter(AugmentConfig(**config), outputs=outputs, spans=spans, num_classes=classes, seed=7)


def draws(n: int = 32, epoch: int = 0) -> Draws:
    return Draws(7, epoch, np.arange(n))


ALL = {"flip": 0.5, "shift": 2, "cutout": 3, "mixup": 0.4, "cutmix": 1.0, "noise": 0.1, "swap": 0.2}


def test_a_batch_is_a_function_of_seed_epoch_and_rows() -> None:
    """The same rows in the same epoch give the same bits; another epoch other ones."""
    inputs, target, rows = [features(32), pictures()], torch.arange(32) % 3, np.arange(100, 132)
    first = augmenter(tabular=True, **ALL).apply(inputs, target, rows, 4)
    again = augmenter(tabular=True, **ALL).apply(inputs, target, rows, 4)
    other = augmenter(tabular=True, **ALL).apply(inputs, target, rows, 5)
    for one, two, three in zip([*first[0], first[1]], [*again[0], again[1]], [*other[0], other[1]], strict=True):
        assert torch.equal(one, two)
        assert not torch.equal(one, three)


@pytest.mark.parametrize("config", [{"flip": 1.0}, {"shift": 3}, {"cutout": 4}, {"mixup": 0.2}, {"cutmix": 1.0}, ALL])
def test_what_came_in_is_left_as_it_was(config: dict[str, Any]) -> None:
    """The batch's arrays belong to the data room and are read again."""
    inputs, target = [features(32), pictures()], torch.arange(32) % 3
    before = [values.clone() for values in [*inputs, target]]
    augmenter(tabular=True, **config).apply(inputs, target, np.arange(32), 0)
    assert all(torch.equal(now, then) for now, then in zip([*inputs, target], before, strict=True))


def test_a_flip_mirrors_whole_pictures_left_to_right() -> None:
    """With chance 1 all are mirrored, with a half about half are, and each is either as it was or mirrored."""
    images = pictures(200)
    assert torch.equal(move(images, AugmentConfig(flip=1.0), draws(200)), images.flip(3))
    some = move(images, AugmentConfig(flip=0.5), draws(200))
    mirrored = torch.tensor([bool((a == b).all()) for a, b in zip(some, images.flip(3), strict=True)])
    kept = torch.tensor([bool((a == b).all()) for a, b in zip(some, images, strict=True)])
    assert bool((mirrored ^ kept).all())
    assert 70 < int(mirrored.sum()) < 130


@pytest.mark.parametrize("channels", [1, 3])
def test_a_shift_is_the_crop_of_a_padded_picture(channels: int) -> None:
    """Every shifted picture is some window of the picture padded with zeros, and all windows occur."""
    images = pictures(300, channels, 6)
    moved = move(images, AugmentConfig(shift=2), draws(300))
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    found = set()
    for picture, wide in zip(moved, padded, strict=True):
        windows = [
            (dy, dx) for dy in range(5) for dx in range(5) if torch.equal(picture, wide[:, dy : dy + 6, dx : dx + 6])
        ]
        assert len(windows) == 1
        found.update(windows)
    assert len(found) == 25


def test_cutout_blanks_one_square_that_may_reach_over_the_edge() -> None:
    """What is blanked is a rectangle of at most the side's length, all of it in some pictures."""
    blanked = (cut_out(pictures(200), 4, draws(200)) == 0.0)[:, 0]
    for mask in blanked:
        rows, columns = torch.nonzero(mask.any(1)), torch.nonzero(mask.any(0))
        height, width = len(rows), len(columns)
        assert 0 <= height <= 4
        assert 0 <= width <= 4
        assert int(mask.sum()) == height * width
    assert int(blanked.sum(dim=(1, 2)).max()) == 16


def test_mixup_blends_rows_and_labels_with_the_same_weight() -> None:
    """Each row is w x + (1 - w) x' with the next row of the batch, and its label the distribution (w, 1 - w)."""
    inputs = [torch.eye(6)]
    outputs = {"features": TensorSpec("float32", (6,))}
    mixed, target = Augmenter(AugmentConfig(mixup=1.0), outputs=outputs, spans=[], num_classes=6, seed=0).apply(
        inputs, torch.arange(6), np.arange(6), 0
    )
    assert torch.allclose(mixed[0], target)
    assert torch.allclose(target.sum(1), torch.ones(6))
    assert bool((target.diagonal() > 0).all())


def test_cutmix_takes_a_box_of_another_picture_and_its_share_of_the_label() -> None:
    """Every pixel is one of the two pictures' own, and the label's weight is the share of the pixels."""
    images = pictures(40)
    (mixed,), target = augmenter(classes=40, cutmix=1.0).apply([images], torch.arange(40), np.arange(40), 0)
    other = images.roll(-1, 0)
    is_own, is_other = mixed == images, mixed == other
    assert bool((is_own | is_other).all())
    share = is_own.float().mean(dim=(1, 2, 3))
    assert torch.allclose(target.diagonal(), share)
    assert 0.0 < float(share.min()) < 0.5 < float(share.max()) <= 1.0


def test_a_regression_target_is_blended_as_a_number() -> None:
    """The target keeps its shape and type and lies between the two rows' targets."""
    values = torch.tensor([0.0, 10.0, 20.0, 30.0])
    _, target = augmenter(classes=None, tabular=True, images=False, mixup=0.5).apply(
        [features(4)], values, np.arange(4), 0
    )
    assert target.dtype == torch.float32
    low, high = torch.minimum(values, values.roll(-1)), torch.maximum(values, values.roll(-1))
    assert bool(((target >= low) & (target <= high)).all())


def test_swapped_values_come_from_the_same_column_of_another_row() -> None:
    """Whole columns are swapped: a category stays one category, and about the configured share changes."""
    given = features(600)
    (changed,), _ = augmenter(tabular=True, images=False, swap=0.3).apply(
        [given], torch.zeros(600, dtype=torch.int64), np.arange(600), 0
    )
    for column in (0, 1):
        assert set(changed[:, column].tolist()) <= set(given[:, column].tolist())
        assert float((changed[:, column] != given[:, column]).float().mean()) == pytest.approx(0.3, abs=0.06)
    assert torch.equal(changed[:, 2:].sum(1), torch.ones(600))


def test_noise_is_added_to_numbers_only() -> None:
    """Scaled numbers get noise of the configured deviation; categories stay what they are."""
    given = features(4000)
    (changed,), _ = augmenter(tabular=True, images=False, noise=0.1).apply(
        [given], torch.zeros(4000, dtype=torch.int64), np.arange(4000), 0
    )
    assert torch.equal(changed[:, 2:], given[:, 2:])
    noise = (changed - given)[:, :2].double()
    assert float(noise.std()) == pytest.approx(0.1, abs=0.005)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.005)


@pytest.mark.parametrize("num_rows", [1, 2])
def test_tiny_batches_work(num_rows: int) -> None:
    """A batch of one has nobody to be mixed with but itself, and stays whole."""
    inputs, target = [features(num_rows), pictures(num_rows)], torch.zeros(num_rows, dtype=torch.int64)
    changed, soft = augmenter(tabular=True, **ALL).apply(inputs, target, np.arange(num_rows), 0)
    assert [values.shape for values in changed] == [values.shape for values in inputs]
    assert torch.allclose(soft.sum(1), torch.ones(num_rows))


@pytest.mark.parametrize(("name", "value"), [("flip", 0.5), ("shift", 2), ("cutout", 2), ("cutmix", 1.0)])
def test_changes_of_pictures_need_pictures(name: str, value: float) -> None:
    """What would have no effect is refused at the start."""
    with pytest.raises(ConfigError, match=rf"train.augment.{name} must be left out where no column is an image"):
        augmenter(images=False, tabular=True, **{name: value})


@pytest.mark.parametrize(("name", "value"), [("noise", 0.1), ("swap", 0.1)])
def test_changes_of_tables_need_a_table(name: str, value: float) -> None:
    """Noise and swapping are refused for pictures alone."""
    with pytest.raises(ConfigError, match=rf"train.augment.{name}"):
        augmenter(**{name: value})


def test_nothing_configured_changes_nothing() -> None:
    """The null object hands on the very same tensors."""
    inputs, target = [pictures()], torch.arange(32)
    changed, same = NoAugmenter().epoch(0, 0)(inputs, target, np.arange(32))
    assert changed[0] is inputs[0]
    assert same is target
    assert AugmentConfig().is_off
    assert not AugmentConfig(flip=0.1).is_off


def test_a_pipelines_columns_are_known_by_place() -> None:
    """Numbers and categories of a real pipeline: noise reaches every number, and nothing but numbers."""
    data = classification()
    augment = augmenter_for(AugmentConfig(noise=0.5), data.pipeline, seed=0)
    given = torch.from_numpy(np.array(data.train.inputs["features"][:16]))
    (changed,), _ = augment.epoch(0, 0)([given], torch.zeros(16, dtype=torch.int64), np.arange(16))
    assert bool((changed != given).all())
    assert isinstance(augmenter_for(AugmentConfig(), data.pipeline, seed=0), NoAugmenter)
