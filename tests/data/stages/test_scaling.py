"""Fitted scalings: what each makes of a column, what it stores, and what it refuses."""

from __future__ import annotations

import json
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from corelane.core.errors import DataError, StateError
from corelane.core.types import Array
from corelane.data.stages.affine import Affine
from corelane.data.stages.curved import Curved
from corelane.data.stages.scaling import Scaler, Scaling, ScalingFitter, scaler_from_json, scaler_to_json


def fit(values: Array, *scalings: Scaling) -> Scaler:
    fitter = ScalingFitter(scalings, tuple(f"c{index}" for index in range(len(scalings))))
    for row in values:
        fitter.update(row[None])
    return fitter.finish()


def test_straight_lines_stay_affine() -> None:
    """Nothing slower than one subtraction and one product is fitted where that is all there is to do."""
    values = np.random.default_rng(0).normal(size=(9, 4))
    assert isinstance(fit(values, "standardise", "min_max", "robust", "none"), Affine)
    assert isinstance(fit(values, "standardise", "log", "robust", "none"), Curved)


def test_robust_ignores_outliers() -> None:
    """Median and distance of the quartiles; where half of a column is one value, the deviation."""
    column = np.array([1.0, 2.0, 3.0, 4.0, 1e9])
    sparse = np.array([0.0, 0.0, 0.0, 0.0, 10.0])
    scaler = fit(np.stack([column, sparse], axis=1), "robust", "robust")
    assert isinstance(scaler, Affine)
    assert scaler.center.tolist() == [3.0, 0.0]
    assert scaler.scale.tolist() == [0.5, 1 / np.std(sparse)]


def test_log_is_signed_and_standardised() -> None:
    """sign(x) ln(1 + |x|), then zero mean and unit deviation."""
    values = np.array([[-1e6], [-1.0], [0.0], [3.0], [1e9]])
    logs = np.sign(values) * np.log1p(np.abs(values))
    scaled = fit(values, "log").apply(values)
    np.testing.assert_allclose(scaled, (logs - logs.mean()) / logs.std(), rtol=1e-6)


def test_quantiles_are_uniform() -> None:
    """Any distribution becomes 0..1 evenly; outside the training range the ends hold."""
    values = np.exp(np.random.default_rng(1).normal(size=(2001, 1)) * 3)
    scaled = fit(values, "quantile").apply(np.sort(values, axis=0))[:, 0]
    np.testing.assert_allclose(scaled, np.linspace(0.0, 1.0, 2001), atol=1e-3)
    assert fit(values, "quantile").apply(np.array([[-1.0], [1e30]])).tolist() == [[0.0], [1.0]]


def test_quantiles_as_a_normal_distribution() -> None:
    """Ranks become normal scores; the ends are finite, half a row's share inside."""
    values = np.random.default_rng(1).uniform(size=(1000, 1))
    scaled = fit(values, "quantile_normal").apply(np.sort(values, axis=0))[:, 0]
    np.testing.assert_allclose(scaled.std(), 1.0, atol=0.01)
    np.testing.assert_allclose(scaled[[0, -1]], [NormalDist().inv_cdf(0.0005), NormalDist().inv_cdf(0.9995)], rtol=1e-6)


def test_a_frequent_value_has_the_middle_of_its_ranks() -> None:
    """Ties share one height, and the curve has no jump; a constant column lies in the middle."""
    values = np.array([[0.0, 7.0], [0.0, 7.0], [0.0, 7.0], [1.0, 7.0], [2.0, 7.0]])
    scaled = fit(values, "quantile", "quantile").apply(np.array([[0.0, 7.0], [1.0, 9.0], [2.0, -5.0]]))
    np.testing.assert_allclose(scaled[:, 0], [0.25, 0.75, 1.0], atol=2e-3)
    assert scaled[:, 1].tolist() == [0.5, 0.5, 0.5]


def test_each_column_has_its_own() -> None:
    """Columns side by side do not see each other, but for those of the unit vector."""
    values = np.abs(np.random.default_rng(2).normal(size=(50, 5)))
    scalings: tuple[Scaling, ...] = ("quantile", "normalise", "log", "normalise", "standardise")
    together = fit(values, *scalings).apply(values)
    for index in (0, 2, 4):
        alone = fit(values[:, [index]], scalings[index]).apply(values[:, [index]])
        assert together[:, index].tobytes() == alone.tobytes()
    np.testing.assert_allclose(np.hypot(together[:, 1], together[:, 3]), 1.0, rtol=1e-6)


@pytest.mark.parametrize("scaling", ["standardise", "min_max", "robust", "log", "quantile", "quantile_normal"])
@pytest.mark.parametrize("value", [0.3, -7e12])
def test_rounding_of_a_constant_is_not_blown_up(scaling: Scaling, value: float) -> None:
    """A column whose values differ in the last place only is centred, and stays within 1 of the middle."""
    values = np.array([[value], [np.nextafter(value, np.inf)], [value]])
    scaled = fit(values, scaling).apply(values)
    assert np.abs(scaled).max() <= (2.0 if scaling.startswith("quantile") else 1e-3 + abs(value) * 1e-15)


@pytest.mark.parametrize("scaling", ["standardise", "min_max", "quantile"])
def test_a_spread_beyond_float64_is_refused(scaling: Scaling) -> None:
    """No infinite, zero or NaN scale is ever fitted, and the column is named."""
    with pytest.raises(DataError, match="c1 must hold numbers of a spread that float64 can hold"):
        fit(np.array([[0.0, 1.7e308], [1.0, -1.7e308]]), "none", scaling)


class TestJson:
    SCALINGS: tuple[Scaling, ...] = ("quantile", "normalise", "log", "min_max", "quantile_normal")

    def stored(self) -> Any:
        values = np.random.default_rng(3).normal(size=(40, 5))
        return scaler_to_json(fit(values, *self.SCALINGS))

    def test_comes_back_exactly(self) -> None:
        """Through JSON text: the same floats, the same output bits."""
        values = np.random.default_rng(4).normal(size=(9, 5))
        stored = self.stored()
        again = scaler_from_json(json.loads(json.dumps(stored)), 5)
        assert scaler_to_json(again) == stored
        assert again.apply(values).tobytes() == scaler_from_json(stored, 5).apply(values).tobytes()

    @pytest.mark.parametrize(
        "change",
        [
            {"center": [0.0]},
            {"scale": None},
            {"logs": [5]},
            {"logs": [True]},
            {"logs": [0]},
            {"unit": "1"},
            {"tables": None},
            {"tables": [3]},
            {"tables": [{"index": 0, "values": [], "heights": []}]},
            {"tables": [{"index": 0, "values": [1.0, 1.0], "heights": [0.0, 1.0]}]},
            {"tables": [{"index": 0, "values": [1.0, 2.0], "heights": [0.0]}]},
            {"tables": [{"index": [0], "values": [1.0], "heights": [0.0]}]},
            {"tables": [{"index": 0, "values": [float("nan")], "heights": [0.0]}]},
        ],
    )
    def test_refuses_broken_fields(self, change: dict[str, Any]) -> None:
        """Short arrays, places that are none, two scalings of one column, and tables that do not increase."""
        with pytest.raises(StateError):
            scaler_from_json(self.stored() | change, 5)
