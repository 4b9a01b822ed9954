"""Scalings that are no straight line: the logarithm, a fitted table of quantiles, and the unit length of a row.

A `Curved` stands where an `Affine` can, with the same two ways through it. Columns pass their curve first, then
everything is centred and scaled by the affine kernel; the columns of the unit vector are divided by its length. Both
ways run the same operations on arrays of one layout, so they give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from corelane.core.types import Array, FloatArray, IntArray
from corelane.data.stages.affine import Affine, Float64Array


def signed_log(values: Array) -> Float64Array:
    """sign(x) ln(1 + |x|) of [n], NaN kept. The magnitudes are copied, so that every call sees memory of one kind."""
    return np.asarray(np.copysign(np.log1p(np.abs(np.array(values, dtype=np.float64))), values))


@dataclass(frozen=True)
class QuantileTable:
    """A monotone map through the points (`values`, `heights`) [k], straight between them and level outside.

    `values` are distinct and increase; k is at least 1.
    """

    values: Float64Array
    heights: Float64Array

    def apply(self, numbers: Array) -> Float64Array:
        """The heights of finite `numbers` [n]: float64 [n]."""
        if len(self.values) == 1:
            return np.full(len(numbers), self.heights[0])
        inside = np.clip(numbers, self.values[0], self.values[-1])
        above = np.clip(np.searchsorted(self.values, inside, side="right"), 1, len(self.values) - 1)
        low, high = self.values[above - 1], self.values[above]
        share = (inside - low) / (high - low)
        return np.asarray(self.heights[above - 1] + share * (self.heights[above] - self.heights[above - 1]))


class Curved:
    """Columns [d] of which some pass a curve before `affine`, and some form a vector of unit length. Frozen.

    `logs` and `unit` are indices of columns; `tables` are quantile tables by index. No column is in two of them.
    """

    def __init__(
        self, affine: Affine, logs: tuple[int, ...], tables: Mapping[int, QuantileTable], unit: tuple[int, ...]
    ) -> None:
        self.affine = affine
        self.logs = logs
        self.tables = tables
        self.unit = unit
        self._unit: IntArray = np.array(unit, dtype=np.int64)

    def apply(self, values: Array, fill: Float64Array | None = None) -> FloatArray:
        """Numbers [n, d] to float32 [n, d]. A NaN becomes what `fill` [d] (in the units of `values`) would become."""
        scaled = np.empty(values.shape, dtype=np.float32)
        self.apply_into(values, fill, scaled)
        return scaled

    def apply_into(self, values: Array, fill: Float64Array | None, out: FloatArray) -> None:
        """`apply`, written into `out` [n, d]."""
        numbers: Float64Array = np.array(values, dtype=np.float64, order="F")
        if fill is not None:
            np.copyto(numbers, fill, where=np.isnan(numbers))
        vectors = numbers[:, self._unit] if len(self._unit) else None
        for index in self.logs:
            numbers[:, index] = signed_log(numbers[:, index])
        for index, table in self.tables.items():
            numbers[:, index] = table.apply(numbers[:, index])
        self.affine.apply_into(numbers, None, out)
        if vectors is not None:
            out[:, self._unit] = _unit_length(vectors)

    def apply_ordinary(self, values: Array) -> FloatArray | None:
        """`apply` for finite numbers [n, d]; None as soon as one is NaN or infinite."""
        return self.apply(values) if np.isfinite(values).all() else None


class UnitLength:
    """Every row [d] is one vector, brought to unit length; zeros stay zeros. For tensors, which miss nothing."""

    def apply_into(self, values: Array, fill: Float64Array | None, out: FloatArray) -> None:
        """Vectors [n, d] to float32 in `out` [n, d]; `fill` [d] stands for NaN."""
        vectors = np.array(values, dtype=np.float64)
        if fill is not None:
            np.copyto(vectors, fill, where=np.isnan(vectors))
        out[...] = _unit_length(vectors)

    def apply_ordinary(self, values: Array) -> FloatArray | None:
        """Finite vectors [n, d] to float32 [n, d]; None as soon as an element is NaN or infinite."""
        if not np.isfinite(values).all():
            return None
        scaled = np.empty(values.shape, dtype=np.float32)
        self.apply_into(values, None, scaled)
        return scaled


def _unit_length(vectors: Array) -> Float64Array:
    """Vectors [n, k] over their length; zeros stay. Divided by the largest element first: squares would overflow."""
    vectors = np.ascontiguousarray(vectors)
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    vectors = vectors / np.where(largest > 0.0, largest, 1.0)
    length = np.sqrt(np.add.reduce(vectors * vectors, axis=1, keepdims=True))
    return np.asarray(vectors / np.where(length > 0.0, length, 1.0))
