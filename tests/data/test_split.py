"""The split: a pure function of seed and position."""

from __future__ import annotations

import numpy as np
import pytest

from corelane.data.config import SplitConfig
from corelane.data.split import TEST, TRAIN, VALIDATION, part_of

POSITIONS = np.arange(100_000)


def test_a_row_keeps_its_part_whatever_the_other_rows() -> None:
    """Asked one by one, in any order, or within a longer file, a position always has the same part."""
    split = SplitConfig()
    parts = part_of(7, POSITIONS, split)
    assert [int(part_of(7, POSITIONS[index : index + 1], split)[0]) for index in range(200)] == parts[:200].tolist()
    order = np.random.default_rng(0).permutation(len(POSITIONS))
    assert np.array_equal(part_of(7, POSITIONS[order], split), parts[order])
    assert np.array_equal(part_of(7, POSITIONS[:1000], split), parts[:1000])


def test_known_values_do_not_change() -> None:
    """The split of a seed is part of what a run means: these values hold for all releases."""
    parts = part_of(7, np.arange(40), SplitConfig(validation=0.25, test=0.25))
    assert "".join(map(str, parts)) == "0121012001010120000010010002000201200200"


@pytest.mark.parametrize("seed", [0, 7, 2**63, -1])
def test_shares_are_met(seed: int) -> None:
    """Test is its share of all rows, validation its share of the rest, to within the accuracy of chance."""
    parts = part_of(seed, POSITIONS, SplitConfig(validation=0.1, test=0.2))
    counts = np.bincount(parts, minlength=3) / len(POSITIONS)
    assert np.abs(counts - [0.72, 0.08, 0.2]).max() < 0.01


def test_another_seed_is_another_split() -> None:
    """Splits of two seeds agree no more often than chance."""
    one, two = (part_of(seed, POSITIONS, SplitConfig(test=0.5, validation=0.0)) for seed in (1, 2))
    assert abs(float((one == two).mean()) - 0.5) < 0.02


def test_folds_partition_the_rows() -> None:
    """Every row is in the test part of exactly one fold, and folds are of about the same size."""
    splits = [SplitConfig(num_folds=5, fold=fold) for fold in range(5)]
    tested = np.array([part_of(7, POSITIONS, split) == TEST for split in splits])
    assert (tested.sum(axis=0) == 1).all()
    assert np.abs(tested.mean(axis=1) - 0.2).max() < 0.01


def test_with_a_test_source_nothing_is_held_out() -> None:
    """The rows are divided into training and validation alone, as they would be without a test share."""
    parts = part_of(7, POSITIONS, SplitConfig(test=0.2), has_test_source=True)
    assert set(parts.tolist()) == {TRAIN, VALIDATION}
    assert np.array_equal(parts, part_of(7, POSITIONS, SplitConfig(test=0.0)))


def test_neighbours_are_independent() -> None:
    """Rows side by side, and rows at any even distance, share a part no more often than chance."""
    is_test = part_of(3, POSITIONS, SplitConfig(test=0.5)) == TEST
    for distance in (1, 2, 3, 10, 1024):
        assert abs(float((is_test[distance:] == is_test[:-distance]).mean()) - 0.5) < 0.01
