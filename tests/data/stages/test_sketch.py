"""Quantiles of a bounded sample: exact while everything fits, within the stated error beyond, whatever the batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from corelane.core.types import Array
from corelane.data.stages.sketch import QuantileSketch

MEDIAN = np.array([0.5])


def sketched(values: Array, size: int, budget: int = 1 << 22) -> QuantileSketch:
    sketch = QuantileSketch(values.shape[1], budget)
    for piece in pieces(values, size):
        sketch.update(piece)
    return sketch


def pieces(values: Array, size: int) -> Iterator[Array]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


@pytest.mark.parametrize("num_rows", [1, 2, 5, 100, 101])
@pytest.mark.parametrize("order", ["C", "F"])
def test_exact_while_it_fits(num_rows: int, order: str) -> None:
    """Up to the bound quantiles are NumPy's, missing values left out; a column of nothing else has 0."""
    values = np.random.default_rng(num_rows).normal(size=(num_rows, 3))
    values[1::3, 1] = np.nan
    values[:, 2] = np.nan
    shares = np.array([0.0, 0.25, 0.5, 0.7, 1.0])
    found = sketched(np.asarray(values, order=order), 8, budget=303).quantiles(shares)  # type: ignore[call-overload]
    np.testing.assert_allclose(found[:, 0], np.quantile(values[:, 0], shares), rtol=1e-13)
    np.testing.assert_allclose(found[:, 1], np.nanquantile(values[:, 1], shares), rtol=1e-13)
    assert found[:, 2].tolist() == [0.0] * 5
    many = np.linspace(0.0, 1.0, 33)
    np.testing.assert_allclose(sketched(values, 8).quantiles(many)[:, 0], np.quantile(values[:, 0], many), rtol=1e-13)


def test_beyond_the_bound_within_the_stated_error() -> None:
    """Sorted input, the worst case for a prefix: no quantile's rank is off by more than sqrt(ln(2/p) / 2k), p = 1 %."""
    values = np.arange(100_000.0)[:, None]
    shares = np.linspace(0.0, 1.0, 101)
    found = sketched(values, 1000, budget=4000).quantiles(shares)[:, 0]
    assert np.abs(found / 100_000 - shares).max() < np.sqrt(np.log(200) / 8000)


def test_batch_boundaries_do_not_matter() -> None:
    """The sample is a function of the rows and their order alone."""
    values = np.random.default_rng(5).normal(size=(5000, 2))
    found = [sketched(values, size, budget=600).quantiles(MEDIAN).tolist() for size in (1000, 1, 5000, 37)]
    assert found[0] == found[1] == found[2] == found[3]


@pytest.mark.parametrize("num_columns", [1, 10_000])
def test_memory_stays_bounded(num_columns: int) -> None:
    """However long the stream or wide the table, no more than the sample and a quarter of it is held."""
    sketch = QuantileSketch(num_columns, budget=1 << 17)
    most = max((1 << 17) // num_columns, 1 << 11)
    for piece in pieces(np.zeros((8 * most if num_columns == 1 else 4 * most, 1)), 1000):
        sketch.update(np.broadcast_to(piece, (len(piece), num_columns)))
        assert sketch._values.shape == (num_columns, most + most // 4)
    assert sketch._num_seen > 2 * most


def test_modes() -> None:
    """The most frequent value; the smallest of several; 0 for a column without one."""
    values = np.array([[3.0, 2.0, np.nan], [3.0, 1.0, np.nan], [1.0, 1.0, np.nan], [np.nan, 2.0, np.nan]])
    assert sketched(values, 2).modes().tolist() == [3.0, 1.0, 0.0]


def test_huge_values_do_not_overflow() -> None:
    """What lies between two values is finite when their sum or difference is not."""
    assert sketched(np.array([[1.5e308], [1.7e308]]), 2).quantiles(MEDIAN).tolist() == [[1.6e308]]
    assert sketched(np.array([[-1.5e308], [1.5e308]]), 2).quantiles(MEDIAN).tolist() == [[0.0]]
