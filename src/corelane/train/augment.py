"""Augmentation: the batches of training, and of nothing else, changed at random in ways that keep their labels true.

Every change is vectorised over the batch and drawn by `draws.py` from (seed, epoch, row index), so an interrupted run
goes on with the same pictures. Rows are mixed with the next row of their batch, and batches are a function of (seed,
epoch, position). The trainer calls `epoch`; where nothing is configured it has `NoAugmenter`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from corelane.core.errors import ConfigError
from corelane.core.types import IntArray
from corelane.data.pipeline import FeatureSpan, Pipeline, TensorSpec
from corelane.train.batches import Change, unchanged
from corelane.train.config import AugmentConfig
from corelane.train.draws import Draws


class Augmenting(Protocol):
    """Changes batches before the step."""

    def epoch(self, epoch: int, first_row: int) -> Change:
        """What changes the batches of one epoch, which come in order from the row `first_row` of the epoch on.

        What came in is left as it was. A mixed target of several classes is a distribution, float32 [n, classes];
        others keep their shape, and what was 0 or 1 lies between.
        """
        ...

    def close(self) -> None:
        """No more batches will come."""
        ...


class NoAugmenter:
    """Leaves batches as they are."""

    def epoch(self, epoch: int, first_row: int) -> Change:  # noqa: ARG002
        """The same inputs and target."""
        return unchanged

    def close(self) -> None:
        """Nothing is held."""


class Augmenter:
    """What `config` asks for, over inputs in the order of `outputs`.

    Pictures are the outputs named "image" or "image_<column>", shape [channels, height, width]; `spans` says what the
    output "features" consists of; `num_classes` is None where the target is no class number. Raises `ConfigError` when
    something is configured that these inputs cannot have.
    """

    def __init__(
        self,
        config: AugmentConfig,
        *,
        outputs: Mapping[str, TensorSpec],
        spans: Sequence[FeatureSpan],
        num_classes: int | None,
        seed: int,
    ) -> None:
        self._config = config
        self._seed = seed
        self._num_classes = num_classes
        self._images = {name: index for index, name in enumerate(outputs) if _is_image(name, outputs[name])}
        self._features = list(outputs).index("features") if "features" in outputs and spans else None
        self._tabular = _Tabular(config, spans)
        _check(config, has_images=bool(self._images), has_features=self._features is not None)
        _check_tokens(config, outputs)

    def epoch(self, epoch: int, first_row: int) -> Change:  # noqa: ARG002
        """See `Augmenting.epoch`."""
        return partial(self.apply, epoch=epoch)

    def close(self) -> None:
        """Nothing is held."""

    def apply(
        self, inputs: Sequence[Tensor], target: Tensor, indices: IntArray, epoch: int
    ) -> tuple[list[Tensor], Tensor]:
        """The changed inputs [n, ...] and target, of the training rows `indices` [n]."""
        draws = Draws(self._seed, epoch, indices)
        changed = list(inputs)
        for name, index in self._images.items():
            changed[index] = cut_out(move(changed[index], self._config, draws, name), self._config.cutout, draws, name)
        if self._features is not None:
            changed[self._features] = self._tabular.apply(changed[self._features], draws)
        if self._config.mixup is not None or self._config.cutmix is not None:
            return self._mix(changed, target, draws)
        return changed, target

    def _mix(self, inputs: list[Tensor], target: Tensor, draws: Draws) -> tuple[list[Tensor], Tensor]:
        """Each row with the next one of the batch: out = w x + (1 - w) x', the target with the mean of w."""
        picture = inputs[next(iter(self._images.values()))] if self._images else None
        weights, share = _mixing_weights(self._config, draws, picture)
        mixed = []
        for index, values in enumerate(inputs):
            is_image = index in self._images.values() and values.shape[2:] == weights.shape[2:]
            own = weights if is_image else share.reshape(-1, *[1] * (values.ndim - 1))
            mixed.append(torch.lerp(values.roll(-1, 0), values, own))
        soft = target if self._num_classes is None else one_hot(target, self._num_classes).to(torch.float32)
        own = share.reshape(-1, *[1] * (soft.ndim - 1))
        return mixed, torch.lerp(soft.roll(-1, 0), soft, own)


def augmenter_for(config: AugmentConfig, pipeline: Pipeline, seed: int) -> Augmenting:
    """What `config` asks for, over the outputs of `pipeline`. Raises `ConfigError` as `Augmenter` does."""
    if config.is_off:
        return NoAugmenter()
    return Augmenter(
        config,
        outputs=pipeline.outputs,
        spans=pipeline.feature_spans,
        num_classes=pipeline.target.num_outputs if pipeline.target.task == "multi_class" else None,
        seed=seed,
    )


def move(pictures: Tensor, config: AugmentConfig, draws: Draws, name: str = "image") -> Tensor:
    """Pictures [n, c, h, w] flipped left to right and shifted, each by its own draw; what comes in at the edge is 0.

    Shifting by up to s pixels is the random crop out of a picture padded by s (He et al., 2015, section 4.2). After
    standardisation 0 is the mean colour.
    """
    if not config.flip and not config.shift:
        return pictures
    n, c, h, w = pictures.shape
    shift = config.shift
    by = draws.below(f"shift:{name}", 2 * shift + 1, 2) - shift
    rows = np.arange(h) + by[:, :1]
    columns = np.arange(w) + by[:, 1:]
    columns = np.where(draws.happens(f"flip:{name}", config.flip), w - 1 - columns, columns)
    index = np.clip(rows, 0, h - 1)[:, :, None] * w + np.clip(columns, 0, w - 1)[:, None, :]
    places = torch.from_numpy(index.reshape(n, 1, h * w)).expand(n, c, h * w)
    moved = pictures.reshape(n, c, h * w).gather(2, places).reshape(n, c, h, w)
    if not shift:
        return moved
    inside = ((rows >= 0) & (rows < h))[:, :, None] & ((columns >= 0) & (columns < w))[:, None, :]
    return moved.mul_(torch.from_numpy(inside)[:, None])


def cut_out(pictures: Tensor, side: int, draws: Draws, name: str = "image") -> Tensor:
    """Pictures [n, c, h, w] with one square of `side` pixels each set to 0 (DeVries and Taylor, 2017).

    The square's centre is anywhere in the picture, so a part of it may lie outside.
    """
    if not side:
        return pictures
    _, _, h, w = pictures.shape
    centres = draws.uniform(f"cutout:{name}", 2)
    outside = ~_box(centres, np.full(len(centres), side), np.full(len(centres), side), h, w)
    return pictures * torch.from_numpy(outside)[:, None]


class _Tabular:
    """Noise and swapping over the output "features"."""

    def __init__(self, config: AugmentConfig, spans: Sequence[FeatureSpan]) -> None:
        self._noise = config.noise
        self._swap = config.swap
        self._num_columns = len(spans)
        widths = [span.stop - span.start for span in spans]
        self._column_of = np.repeat(np.arange(len(spans)), widths)
        self._numeric = np.repeat([span.is_numeric for span in spans], widths).astype(np.float32)

    def apply(self, features: Tensor, draws: Draws) -> Tensor:
        """Features [n, d]: whole columns of a row replaced by those of another row, then noise on the numbers."""
        n, d = features.shape
        if self._swap and n > 1:
            swapped = draws.happens("swap", self._swap, self._num_columns)
            other = (np.arange(n)[:, None] + 1 + draws.below("swap_with", n - 1, self._num_columns)) % n
            source = np.where(swapped, other, np.arange(n)[:, None])[:, self._column_of]
            features = features.gather(0, torch.from_numpy(source))
        if self._noise:
            noise = draws.normal("noise", d) * (self._numeric * np.float32(self._noise))
            features = features + torch.from_numpy(noise)
        return features


def _mixing_weights(config: AugmentConfig, draws: Draws, pictures: Tensor | None) -> tuple[Tensor, Tensor]:
    """How much of a row stays: per pixel float32 [n, 1, h, w] (or [n]) and as a share of the whole, float32 [n].

    Mixup (Zhang et al., 2018) blends everywhere; CutMix (Yun et al., 2019) replaces a box of the picture, whose area is
    what the draw leaves to the other row. With both, each row has one of them, drawn with equal chances.
    """
    blend = draws.beta("mixup", config.mixup) if config.mixup is not None else None
    if config.cutmix is None or pictures is None:
        share = torch.from_numpy(np.asarray(blend, dtype=np.float32))
        return share, share
    n, _, h, w = pictures.shape
    side = np.sqrt(1.0 - draws.beta("cutmix", config.cutmix))
    box = _box(draws.uniform("cutmix_box", 2), side * h, side * w, h, w)
    weights = (~box).astype(np.float32)
    if blend is not None:
        is_blend = draws.happens("mixup_or_cutmix", 0.5)[:, :, None]
        weights = np.where(is_blend, blend[:, None, None], weights).astype(np.float32)
    return torch.from_numpy(weights)[:, None], torch.from_numpy(weights.reshape(n, -1).mean(axis=1))


def _box(
    centres: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    heights: np.ndarray[tuple[int], np.dtype[np.float64]],
    widths: np.ndarray[tuple[int], np.dtype[np.float64]],
    h: int,
    w: int,
) -> np.ndarray[tuple[int, int, int], np.dtype[np.bool_]]:
    """Which pixels lie in each row's box: bool [n, h, w]. `centres` [n, 2] are shares of height and width."""
    tops = np.floor(centres[:, 0] * h - heights / 2.0 + 0.5)[:, None]
    lefts = np.floor(centres[:, 1] * w - widths / 2.0 + 0.5)[:, None]
    rows, columns = np.arange(h), np.arange(w)
    in_rows = (rows >= tops) & (rows < tops + np.round(heights)[:, None])
    in_columns = (columns >= lefts) & (columns < lefts + np.round(widths)[:, None])
    return np.asarray(in_rows[:, :, None] & in_columns[:, None, :])


def _is_image(name: str, spec: TensorSpec) -> bool:
    return (name == "image" or name.startswith("image_")) and len(spec.shape) == 3


def _check_tokens(config: AugmentConfig, outputs: Mapping[str, TensorSpec]) -> None:
    for name, value in {"mixup": config.mixup, "cutmix": config.cutmix}.items():
        if value is not None and any(spec.vocabulary is not None for spec in outputs.values()):
            raise ConfigError(f"train.augment.{name} must be left out for tokens, which cannot be blended, got {value}")


def _check(config: AugmentConfig, *, has_images: bool, has_features: bool) -> None:
    wanted = {"flip": config.flip, "shift": config.shift, "cutout": config.cutout, "cutmix": config.cutmix}
    for name, value in wanted.items():
        if value and not has_images:
            raise ConfigError(f"train.augment.{name} must be left out where no column is an image, got {value}")
    for name, value in {"noise": config.noise, "swap": config.swap}.items():
        if value and not has_features:
            raise ConfigError(
                f"train.augment.{name} must be left out where no column is a number or category, got {value}"
            )
