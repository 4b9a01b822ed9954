"""Streaming statistics of many columns at once: how many values, mean and variance, smallest and largest.

Mean and variance merge piece by piece in float64 with the pairwise update of Chan, Golub and LeVeque ("Updating
formulae and a pairwise algorithm for computing sample variances", 1979), which does not cancel where sums of squares
do. The fitters of the stages and of the target own one each; quantiles are in `sketch.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from corelane.core.types import Array, BoolArray, IntArray
from corelane.data.stages.affine import Float64Array

ROUNDING = 2.0**-50
"""Share of the largest magnitude that a spread must exceed to be one: four units in the last place are what rounding
leaves of a constant (0.1 + 0.2 beside 0.3), while a spread of 1 around 1e15 is kept.
"""

_PIECE_VALUES = 1 << 15  # looked at together: 256 KiB, so that the passes over them stay within a core's cache


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

    def update(self, values: Array) -> None:
        """Take a batch [n, d] of floats; fastest when each column lies together in memory."""
        for columns, piece in _pieces(values):
            self._update(columns, piece)

    def _update(self, columns: slice, values: Array) -> None:
        absent = np.isnan(values)
        num_absent = np.count_nonzero(absent, axis=0)
        count: IntArray = len(values) - num_absent
        self._set_origins(columns, values, absent, count)
        origin = self._origin[columns]
        has_gaps = bool(num_absent.any())
        if has_gaps:  # the origin is a value of the column, so it widens no range, and it is 0 once shifted
            values = np.where(absent, origin, values)
        low = np.where(count > 0, values.min(axis=0), np.inf)
        high = np.where(count > 0, values.max(axis=0), -np.inf)
        np.minimum(self.minimum[columns], low, out=self.minimum[columns])
        np.maximum(self.maximum[columns], high, out=self.maximum[columns])
        with np.errstate(over="ignore", invalid="ignore"):
            shifted = np.subtract(values, origin, dtype=np.float64)
            mean = shifted.sum(axis=0) / np.maximum(count, 1)
            shifted -= mean
            if has_gaps:
                np.copyto(shifted, 0.0, where=absent)
            self._merge(columns, count, mean, np.multiply(shifted, shifted, out=shifted).sum(axis=0))

    def _set_origins(self, columns: slice, values: Array, absent: BoolArray, count: IntArray) -> None:
        begun = np.flatnonzero((self.count[columns] == 0) & (count > 0))
        if len(begun):
            self._origin[columns.start + begun] = values[absent[:, begun].argmin(axis=0), begun]

    def _merge(self, columns: slice, count: IntArray, mean: Float64Array, squares: Float64Array) -> None:
        before = self.count[columns]
        share = count / np.maximum(before + count, 1)
        difference = mean - self._mean[columns]
        self._squares[columns] += squares + difference * difference * before * share
        self._mean[columns] += difference * share
        self.count[columns] += count

    @property
    def mean(self) -> Float64Array:
        """Mean [d]; 0 where nothing was present."""
        return self._origin + self._mean

    @property
    def deviation(self) -> Float64Array:
        """Population standard deviation [d]; exactly 0 for a column that is constant but for rounding."""
        return self.spread(np.sqrt(self._squares / np.maximum(self.count, 1)))

    def spread(self, found: Float64Array) -> Float64Array:
        """`found` [d], some measure of spread, or exactly 0 where no more than rounding is in it."""
        rounding = ROUNDING * np.maximum(np.abs(self.minimum), np.abs(self.maximum))
        with np.errstate(over="ignore", invalid="ignore"):
            is_spread = self.maximum - self.minimum > rounding  # the squares of `found` may have overflowed before
        return np.where(is_spread & (found > rounding), found, 0.0)


def _pieces(values: Array) -> Iterator[tuple[slice, Array]]:
    """Parts [m, k] of a batch [n, d] with the columns they are, small enough for a cache, along its memory."""
    num_rows, num_columns = values.shape
    if values.flags.f_contiguous:
        height = min(num_rows, _PIECE_VALUES)
    else:
        height = min(num_rows, max(1, _PIECE_VALUES // num_columns))
    for row in range(0, num_rows, max(height, 1)):
        width = max(1, _PIECE_VALUES // height)
        for column in range(0, num_columns, width):
            columns = slice(column, min(column + width, num_columns))
            yield columns, values[row : row + height, columns]
