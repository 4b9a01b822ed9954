"""Streaming statistics against exact ones of the whole column."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from corelane.core.types import Array
from corelane.data.stages.moments import Moments


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


@pytest.mark.parametrize("noise", [0.0, 1e-16, 3e-16])
def test_what_rounding_leaves_of_a_constant_is_no_deviation(noise: float) -> None:
    """Sums in another order differ in the last places; scaling those up to a deviation of one would be noise."""
    moments = Moments(2)
    moments.update(np.array([[0.3, 7e12], [0.1 + 0.2, 7e12 * (1 + noise)], [0.3 * (1 - noise), 7e12]]))
    assert moments.deviation.tolist() == [0.0, 0.0]


def test_a_small_but_real_deviation_stays() -> None:
    """A spread of 1 around 1e15 is eight units in the last place, and counts."""
    moments = Moments(1)
    moments.update(np.array([[1e15 - 1], [1e15 + 1]]))
    assert moments.deviation.tolist() == [1.0]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(70_000, 3), (5, 40_000), (70_000, 1)])
def test_batches_of_any_layout_are_taken_in_pieces(shape: tuple[int, int], dtype: Any, order: Any) -> None:
    """Larger than one piece in either direction, by row or by column in memory, gaps among them."""
    values = np.random.default_rng(0).normal(3.0, 2.0, shape).astype(dtype, order=order)
    values[::7, 0] = np.nan
    moments = Moments(shape[1])
    moments.update(values)
    wide = values.astype(np.float64)
    np.testing.assert_allclose(moments.mean, np.nanmean(wide, axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.deviation, np.nanstd(wide, axis=0), rtol=1e-12)
    assert moments.minimum.tolist() == np.nanmin(wide, axis=0).tolist()
    assert moments.maximum.tolist() == np.nanmax(wide, axis=0).tolist()
    assert moments.count.tolist() == (~np.isnan(wide)).sum(axis=0).tolist()
