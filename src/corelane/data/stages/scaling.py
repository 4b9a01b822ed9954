"""From a chosen scaling to a fitted one: which statistics it needs, and how they are stored. For numbers and tensors.

`ScalingFitter` gathers the statistics of d columns in one pass; its `finish` makes an `Affine`, or a `Curved` where a
column's scaling is no straight line. Applying them is not its part.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, Literal, TypeAlias

import numpy as np

from corelane.core.errors import DataError, StateError
from corelane.core.types import Array, BoolArray, IntArray, JsonObject
from corelane.data.stages.affine import Affine, Float64Array
from corelane.data.stages.column import shorten
from corelane.data.stages.curved import Curved, QuantileTable, signed_log
from corelane.data.stages.moments import Moments
from corelane.data.stages.sketch import QuantileSketch
from corelane.data.stages.stored import read_floats, read_indices, read_numbers

Scaling: TypeAlias = Literal[
    "standardise", "min_max", "robust", "quantile", "quantile_normal", "log", "normalise", "none"
]
Scaler: TypeAlias = Affine | Curved

MAX_POINTS = 1000  # of one quantile table; scikit-learn's default, and finer than the sketch for most tables
POINT_BUDGET = 1 << 20  # of all tables of a stage together: 25 MB of JSON

_QUARTILES = np.array([0.25, 0.5, 0.75])
_SKETCHED = ("robust", "quantile", "quantile_normal")
_NORMAL = NormalDist()


class ScalingFitter:
    """Owns the running statistics of d columns and nothing else.

    `sketched` marks further columns whose quantiles are wanted, for imputation. `names` [d] are for messages.
    """

    def __init__(
        self, scalings: tuple[Scaling, ...], names: tuple[str, ...], sketched: BoolArray | None = None
    ) -> None:
        self._scalings = scalings
        self._names = names
        self._logs = _indices(scalings, "log")
        wanted = np.array([scaling in _SKETCHED for scaling in scalings])
        self._sketched: IntArray = np.flatnonzero(wanted if sketched is None else wanted | sketched)
        self._sketch = QuantileSketch(len(self._sketched)) if len(self._sketched) else None
        self._log_moments = Moments(len(self._logs))
        self.moments = Moments(len(scalings))

    def update(self, values: Array) -> None:
        """Take a batch [n, d], NaN = missing."""
        self.moments.update(values)
        if len(self._logs):
            self._log_moments.update(np.stack([signed_log(values[:, index]) for index in self._logs]).T)
        if self._sketch is not None:
            is_whole = len(self._sketched) == len(self._scalings)
            self._sketch.update(values if is_whole else values.T[self._sketched].T)

    def medians(self) -> Float64Array:
        """Median [d]; 0 where none was sketched."""
        return self._spread_out(self._quantiles(np.array([0.5]))[0])

    def modes(self) -> Float64Array:
        """The most frequent value [d] of the sketch; 0 where none was sketched."""
        return self._spread_out(np.empty(0) if self._sketch is None else self._sketch.modes())

    def finish(self) -> Scaler:
        """The fitted scaling. Raises `DataError` for numbers of a spread that float64 cannot hold."""
        center, spread = np.zeros(len(self._scalings)), np.zeros(len(self._scalings))
        with np.errstate(over="ignore", invalid="ignore"):
            for scaling in ("standardise", "min_max", "robust", "log"):
                chosen = _indices(self._scalings, scaling)
                if len(chosen):
                    center[chosen], spread[chosen] = self._line(scaling, chosen)
            affine = Affine(center, np.where(spread > 0.0, 1.0 / np.where(spread > 0.0, spread, 1.0), 1.0))
        unscalable = ~np.isfinite(center) | ~np.isfinite(spread) | ~np.isfinite(affine.scale) | (affine.scale <= 0.0)
        self._check(unscalable)
        tables = self._tables()
        unit = _indices(self._scalings, "normalise")
        if not (tables or len(self._logs) or len(unit)):
            return affine
        return Curved(affine, tuple(self._logs.tolist()), tables, tuple(unit.tolist()))

    def _line(self, scaling: str, chosen: IntArray) -> tuple[Float64Array, Float64Array]:
        """(center, spread) of the `chosen` columns; a spread of 0 is a constant column, which is centred only."""
        moments = self.moments
        if scaling == "log":
            return self._log_moments.mean, self._log_moments.deviation
        if scaling == "standardise":
            return moments.mean[chosen], moments.deviation[chosen]
        if scaling == "min_max":
            return moments.minimum[chosen], moments.spread(moments.maximum - moments.minimum)[chosen]
        low, middle, high = map(self._spread_out, self._quantiles(_QUARTILES))
        between = moments.spread(high - low)
        return middle[chosen], np.where(between > 0.0, between, moments.deviation)[chosen]

    def _tables(self) -> dict[int, QuantileTable]:
        wanted = np.flatnonzero([scaling in ("quantile", "quantile_normal") for scaling in self._scalings])
        if not len(wanted):
            return {}
        with np.errstate(over="ignore"):
            unscalable = ~np.isfinite(self.moments.maximum - self.moments.minimum)
        self._check(unscalable & np.isin(np.arange(len(unscalable)), wanted))
        shares = np.linspace(0.0, 1.0, max(2, min(MAX_POINTS, POINT_BUDGET // len(wanted))))
        quantiles = self._quantiles(shares)
        tables = {}
        for index in wanted.tolist():
            points = quantiles[:, int(np.searchsorted(self._sketched, index))].copy()
            points[0], points[-1] = self.moments.minimum[index], self.moments.maximum[index]
            tables[index] = _table(points, shares, self._scalings[index], int(self.moments.count[index]))
        return tables

    def _quantiles(self, shares: Float64Array) -> Float64Array:
        return np.zeros((len(shares), 0)) if self._sketch is None else self._sketch.quantiles(shares)

    def _spread_out(self, found: Float64Array) -> Float64Array:
        """[d] from what was found for the sketched columns."""
        spread = np.zeros(len(self._scalings))
        spread[self._sketched] = found
        return spread

    def _check(self, is_unscalable: BoolArray) -> None:
        if is_unscalable.any():
            name = self._names[int(np.argmax(is_unscalable))]
            raise DataError(
                f"{name} must hold numbers of a spread that float64 can hold, got one too large or too small; "
                "rescale it"
            )


def scaler_to_json(scaler: Scaler) -> JsonObject:
    """A fitted scaling as JSON data; floats survive exactly."""
    affine = scaler if isinstance(scaler, Affine) else scaler.affine
    stored: JsonObject = {"center": affine.center.tolist(), "scale": affine.scale.tolist()}
    if isinstance(scaler, Curved):
        stored["logs"] = list(scaler.logs)
        stored["unit"] = list(scaler.unit)
        stored["tables"] = [
            {"index": index, "values": table.values.tolist(), "heights": table.heights.tolist()}
            for index, table in scaler.tables.items()
        ]
    return stored


def scaler_from_json(data: Mapping[str, Any], num_columns: int) -> Scaler:
    """What `scaler_to_json` wrote among the fields of `data`. Raises `StateError` for a broken field."""
    affine = Affine(read_floats(data, "center", num_columns), read_floats(data, "scale", num_columns))
    if "tables" not in data:
        return affine
    logs, unit = (read_indices(data, key, num_columns) for key in ("logs", "unit"))
    stored = data["tables"]
    if not isinstance(stored, list) or not all(isinstance(table, dict) for table in stored):
        raise StateError(f"tables of a stored stage must be a list of tables, got {shorten(stored)}")
    places = read_indices({"index": [table.get("index") for table in stored]}, "index", num_columns)
    if len({*logs, *unit, *places}) < len(logs) + len(unit) + len(places):
        raise StateError("a column of a stored stage must have one scaling, got two")
    return Curved(affine, logs, dict(zip(places, map(_read_table, stored), strict=True)), unit)


def _read_table(data: Mapping[str, Any]) -> QuantileTable:
    values, heights = read_numbers(data, "values"), read_numbers(data, "heights")
    if not len(values) or len(values) != len(heights) or (np.diff(values) <= 0.0).any():
        raise StateError("the values of a stored quantile table must increase, one per height, got others")
    return QuantileTable(values, heights)


def _table(points: Float64Array, shares: Float64Array, scaling: str, num_values: int) -> QuantileTable:
    """The table of quantiles `points` at `shares`: a value that takes up several has the middle of their shares.

    For the normal distribution the ends stand half a row's share inside 0 and 1, where it is infinite.
    """
    values, first, counts = np.unique(np.maximum.accumulate(points), return_index=True, return_counts=True)
    heights = (shares[first] + shares[first + counts - 1]) / 2
    if scaling == "quantile_normal":
        end = 0.5 / max(num_values, 1)
        heights = np.array([_NORMAL.inv_cdf(share) for share in np.clip(heights, end, 1.0 - end).tolist()])
    return QuantileTable(values, heights)


def _indices(scalings: tuple[Scaling, ...], wanted: str) -> IntArray:
    return np.flatnonzero([scaling == wanted for scaling in scalings])
