"""Which part a row belongs to: a pure function of the seed and the row's position, whatever the other rows are.

Rows can therefore be divided while they stream, a grown file keeps the parts of its old rows, and any source that gives
the same rows in the same order gives the same parts. The shares are met on average: a part of 20 % of 1,000 rows has
200 rows give or take 13.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from corelane.core.types import IntArray
from corelane.data.config import SplitConfig
from corelane.data.order import mix

TRAIN, VALIDATION, TEST = 0, 1, 2
PARTS = ("train", "validation", "test")


def part_of(seed: int, positions: IntArray, split: SplitConfig, *, has_test_source: bool = False) -> NDArray[np.int8]:
    """The part of the rows at `positions` [n]: int8 [n] of 0 (train), 1 (validation), 2 (test).

    With folds the test part is fold `split.fold`, else a share `split.test`; with a test source of its own there is
    none here. Validation is a share of what is left, drawn independently of the test part.
    """
    parts = np.where(_draw(seed, positions, "validation") < split.validation, VALIDATION, TRAIN).astype(np.int8)
    if has_test_source:
        return parts
    if split.num_folds is not None:
        is_test = mix(positions, "fold", seed) % np.uint64(split.num_folds) == split.fold
    else:
        is_test = _draw(seed, positions, "test") < split.test
    parts[is_test] = TEST
    return parts


def _draw(seed: int, positions: IntArray, purpose: str) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), one per position: the upper 53 bits, all that a float64 can hold."""
    return (mix(positions, purpose, seed) >> np.uint64(11)).astype(np.float64) * 2.0**-53
