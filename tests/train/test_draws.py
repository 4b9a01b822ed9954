"""Draws belong to rows: the same whatever batch a row is in, and distributed as they say."""

from __future__ import annotations

import numpy as np
import pytest

from corelane.train.draws import Draws

MANY = Draws(3, 1, np.arange(100_000))


@pytest.mark.parametrize("num", [1, 3])
def test_a_row_has_the_same_numbers_in_any_batch(num: int) -> None:
    """Order and company of the rows in a batch do not matter."""
    order = np.random.default_rng(0).permutation(1000)
    whole = Draws(3, 1, np.arange(1000))
    shuffled = Draws(3, 1, order)
    for draw in ("uniform", "normal"):
        assert (getattr(shuffled, draw)("x", num) == getattr(whole, draw)("x", num)[order]).all()
    assert (shuffled.beta("b", 0.2) == whole.beta("b", 0.2)[order]).all()


def test_seed_epoch_and_purpose_give_other_numbers() -> None:
    """No two streams are the same or correlated."""
    rows = np.arange(20_000)
    streams = [
        Draws(seed, epoch, rows).uniform(purpose)[:, 0] for seed in (0, 1) for epoch in (0, 1) for purpose in "ab"
    ]
    correlations = np.corrcoef(streams)
    assert np.abs(correlations - np.eye(len(streams))).max() < 0.03


def test_uniform_numbers_are_uniform() -> None:
    """Mean, variance and the share below any bound are those of the uniform distribution."""
    values = MANY.uniform("x", 2)
    assert values.min() >= 0.0
    assert values.max() < 1.0
    assert values.mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.005)
    assert values.var(axis=0) == pytest.approx([1 / 12, 1 / 12], abs=0.002)
    assert MANY.happens("x", 0.3).mean() == pytest.approx(0.3, abs=0.005)
    assert not MANY.happens("x", 0.0).any()
    assert MANY.happens("x", 1.0).all()
    assert set(MANY.below("x", 5)[:, 0].tolist()) == {0, 1, 2, 3, 4}


def test_normal_numbers_are_normal() -> None:
    """The first four moments."""
    values = MANY.normal("x", 2).astype(np.float64)
    assert values.mean() == pytest.approx(0.0, abs=0.01)
    assert values.std() == pytest.approx(1.0, abs=0.01)
    assert (values**3).mean() == pytest.approx(0.0, abs=0.03)
    assert (values**4).mean() == pytest.approx(3.0, abs=0.06)
    assert np.isfinite(values).all()


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5, 1.0, 2.0, 8.0])
def test_beta_numbers_are_those_of_the_distribution(alpha: float) -> None:
    """Every decile agrees with NumPy's generator."""
    expected = np.random.default_rng(0).beta(alpha, alpha, 200_000)
    deciles = np.linspace(0.1, 0.9, 9)
    assert np.quantile(MANY.beta("x", alpha), deciles) == pytest.approx(np.quantile(expected, deciles), abs=0.01)
