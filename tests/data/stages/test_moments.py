"""Streaming statistics against NumPy's on the whole column, and the bounded median."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from corelane.core.types import Array
from corelane.data.stages.moments import MedianSample, Moments


def pieces(values: Array, size: int) -> Iterator[Array]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("offset", [0.0, 1e9, -1e15])
def test_mean_and_deviation_do_not_cancel(size: int, offset: float) -> None:
    """A small spread around a large mean keeps all its digits, against exact fractions; NumPy loses some."""
    values = np.random.default_rng(0).normal(size=(1000, 2)) + offset
    moments = Moments(2)
    for piece in pieces(values, size):
        moments.update(piece)
    exact = [statistics.mean(map(Fraction, column)) for column in values.T.tolist()]
    spread = [statistics.pstdev(map(Fraction, column)) for column in values.T.tolist()]
    np.testing.assert_allclose(moments.mean, [float(mean) for mean in exact], rtol=1e-15, atol=1e-13)
    np.testing.assert_allclose(moments.deviation, spread, rtol=1e-12)
    assert moments.minimum.tolist() == values.min(axis=0).tolist()
    assert moments.maximum.tolist() == values.max(axis=0).tolist()


def test_missing_values_are_left_out() -> None:
    """NaN counts for nothing; a batch or a column of nothing else is no value at all."""
    moments = Moments(3)
    moments.update(np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan]]))
    moments.update(np.full((2, 3), np.nan))
    moments.update(np.empty((0, 3)))
    assert moments.count.tolist() == [2, 1, 0]
    assert moments.mean.tolist() == [2.0, 5.0, 0.0]
    assert moments.deviation.tolist() == [1.0, 0.0, 0.0]


def test_a_constant_column_has_no_deviation_at_all() -> None:
    """Rounding of 0.1 added 10,001 times must not leave a tiny deviation to divide by."""
    moments = Moments(1)
    for piece in pieces(np.full((10_001, 1), 0.1), 97):
        moments.update(piece)
    assert moments.deviation.tolist() == [0.0]


@pytest.mark.parametrize("num_rows", [1, 2, 5, 100, 101])
def test_median_is_exact_while_it_fits(num_rows: int) -> None:
    """Up to the bound the median is NumPy's, missing values left out."""
    values = np.random.default_rng(num_rows).normal(size=(num_rows, 3))
    values[::3, 1] = np.nan
    values[:, 2] = np.nan
    sample = MedianSample(3, budget=303)
    for piece in pieces(values, 8):
        sample.update(piece)
    expected = [np.median(values[:, 0]), np.median(values[1:, 1]) if num_rows == 2 else 0.0, 0.0]
    if num_rows > 2:
        expected[1] = np.nanmedian(values[:, 1])
    assert sample.median().tolist() == pytest.approx(expected, abs=0)


def test_median_beyond_the_bound_is_a_fair_sample() -> None:
    """Sorted input, the worst case for a prefix: the rank of the estimate is off by no more than a few percent."""
    values = np.arange(100_000.0)[:, None]
    sample = MedianSample(1, budget=4000)
    for piece in pieces(values, 1000):
        sample.update(piece)
    assert abs(sample.median()[0] / 100_000 - 0.5) < 0.03


def test_median_does_not_depend_on_batch_boundaries() -> None:
    """The sample is a function of the rows and their order alone."""
    values = np.random.default_rng(5).normal(size=(5000, 2))
    medians = []
    for size in (1000, 1, 5000):
        sample = MedianSample(2, budget=600)
        for piece in pieces(values, size):
            sample.update(piece)
        medians.append(sample.median().tolist())
    assert medians[0] == medians[1] == medians[2]


def test_memory_stays_bounded() -> None:
    """However long the stream, no more than twice the budget is held."""
    sample = MedianSample(1, budget=100)
    for piece in pieces(np.arange(10_000.0)[:, None], 50):
        sample.update(piece)
        assert sum(len(values) for values in sample._values) <= 200


def test_median_of_huge_values_does_not_overflow() -> None:
    """The mean of the two middle values is finite when their sum is not."""
    sample = MedianSample(1)
    sample.update(np.array([[1.5e308], [1.7e308]]))
    assert sample.median().tolist() == [1.6e308]
