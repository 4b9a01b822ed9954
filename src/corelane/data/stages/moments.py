"""Streaming statistics of many columns at once: mean and variance, smallest and largest, and a bounded sample for
medians.

Mean and variance merge batch by batch in float64 with the pairwise update of Chan, Golub and LeVeque ("Updating
formulae and a pairwise algorithm for computing sample variances", 1979), which does not cancel where sums of squares
do.
"""

from __future__ import annotations

import numpy as np

from corelane.core.types import BoolArray, IntArray
from corelane.data.stages.affine import Float64Array

SAMPLE_BUDGET = (
    1 << 22
)  # values kept for medians over all columns together: 32 MiB, exact up to 131,072 rows of 32 columns
SMALLEST_SAMPLE = 1 << 13  # per column even when there are thousands; the median's rank is then off by about 0.6 %


class Moments:
    """Count, mean, variance, minimum and maximum of d columns, NaN left out.

    Everything is counted from each column's first value on: a spread of 1 around 1e15 keeps all its digits.
    """

    def __init__(self, num_columns: int) -> None:
        self.count: IntArray = np.zeros(num_columns, dtype=np.int64)
        self.minimum: Float64Array = np.full(num_columns, np.inf)
        self.maximum: Float64Array = np.full(num_columns, -np.inf)
        self._origin: Float64Array = np.zeros(num_columns)
        self._mean: Float64Array = np.zeros(num_columns)
        self._squares: Float64Array = np.zeros(num_columns)

    def update(self, values: Float64Array) -> None:
        """Take a batch [n, d]."""
        present = ~np.isnan(values)
        count = present.sum(axis=0)
        self._set_origins(values, present, count)
        with np.errstate(over="ignore", invalid="ignore"):
            shifted = np.where(present, values - self._origin, 0.0)
            mean = shifted.sum(axis=0) / np.maximum(count, 1)
            deviation = np.where(present, shifted - mean, 0.0)
            self._merge(count, mean, np.einsum("nd,nd->d", deviation, deviation))
        self.minimum = np.minimum(self.minimum, np.where(present, values, np.inf).min(axis=0, initial=np.inf))
        self.maximum = np.maximum(self.maximum, np.where(present, values, -np.inf).max(axis=0, initial=-np.inf))

    def _set_origins(self, values: Float64Array, present: BoolArray, count: IntArray) -> None:
        begun = np.flatnonzero((self.count == 0) & (count > 0))
        self._origin[begun] = values[present[:, begun].argmax(axis=0), begun] if len(begun) else 0.0

    def _merge(self, count: IntArray, mean: Float64Array, squares: Float64Array) -> None:
        total = self.count + count
        share = count / np.maximum(total, 1)
        difference = mean - self._mean
        self._squares += squares + difference * difference * self.count * share
        self._mean += difference * share
        self.count = total

    @property
    def mean(self) -> Float64Array:
        """Mean [d]; 0 where nothing was present."""
        return self._origin + self._mean

    @property
    def deviation(self) -> Float64Array:
        """Population standard deviation [d]; exactly 0 for a constant column, whatever rounding left behind."""
        spread = np.sqrt(self._squares / np.maximum(self.count, 1))
        return np.where(self.minimum < self.maximum, spread, 0.0)


class MedianSample:
    """Values of d columns for their medians: all of them up to a bound, a uniform sample of fixed size beyond it.

    The sample keeps the rows whose hashed running number is smallest (bottom-k sampling), so it depends on the order of
    the rows but neither on batch boundaries nor on chance.
    """

    def __init__(self, num_columns: int, budget: int = SAMPLE_BUDGET) -> None:
        self._capacity = max(budget // max(num_columns, 1), min(SMALLEST_SAMPLE, budget))
        self._values: list[Float64Array] = []
        self._priorities: list[np.ndarray[tuple[int], np.dtype[np.uint64]]] = []
        self._num_columns = num_columns
        self._num_kept = 0
        self._num_seen = 0

    def update(self, values: Float64Array) -> None:
        """Take a batch [n, d]; NaN is kept in place and left out by `median`."""
        rows = np.arange(self._num_seen, self._num_seen + len(values), dtype=np.uint64)
        self._num_seen += len(values)
        self._values.append(values)
        self._priorities.append(_mix(rows))
        self._num_kept += len(values)
        if self._num_kept > 2 * self._capacity:
            self._shrink()

    def median(self) -> Float64Array:
        """Median [d] of what was kept: exact while no more than the bound was seen; 0 where nothing was present."""
        if self._num_kept > self._capacity:
            self._shrink()
        values = np.concatenate(self._values) if self._values else np.empty((0, self._num_columns))
        medians = np.zeros(self._num_columns)
        for index in range(self._num_columns):
            present = values[:, index][~np.isnan(values[:, index])]
            if len(present):
                medians[index] = _median(present)
        return medians

    def _shrink(self) -> None:
        values = np.concatenate(self._values)
        priorities = np.concatenate(self._priorities)
        kept = np.sort(np.argpartition(priorities, self._capacity)[: self._capacity])
        self._values, self._priorities = [values[kept]], [priorities[kept]]
        self._num_kept = self._capacity


def _median(present: Float64Array) -> float:
    """The median; the mean of the two middle values is taken without their sum, which could overflow."""
    middle = len(present) // 2
    if len(present) % 2:
        return float(np.partition(present, middle)[middle])
    low, high = np.partition(present, [middle - 1, middle])[middle - 1 : middle + 1].tolist()
    return float(low / 2 + high / 2) if abs(low) + abs(high) > 1e300 else float((low + high) / 2)


def _mix(numbers: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): a bijection of 64 bits that looks random."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
