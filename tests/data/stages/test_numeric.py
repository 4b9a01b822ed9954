"""Fitting a block of numbers: which statistics, which fill, and what cannot be scaled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from corelane.core.errors import DataError, StateError
from corelane.data.stages.affine import Affine
from corelane.data.stages.column import Column
from corelane.data.stages.numeric import FittedNumeric, NumericStage
from tests.data.examples import batch, transformed

COLUMNS = (Column("a", "numeric"), Column("b", "numeric"))
ROWS = {"a": [1.0, 2.0, None, 9.0], "b": [5.0, 5.0, 5.0, 5.0]}


def fit(rows: dict[str, Any] | None = None, **settings: Any) -> FittedNumeric:
    options: dict[str, Any] = {"scaling": "standardise", "imputation": "median", "fill_value": 0.0} | settings
    each = [(options[name],) * 2 for name in ("scaling", "imputation", "fill_value")]
    fitter = NumericStage(options.get("columns", COLUMNS), *each, options.get("indicators", False)).fitter()
    fitter.update(batch(rows or ROWS))
    return fitter.finish()


@pytest.mark.parametrize(
    ("scaling", "center", "scale"),
    [
        ("standardise", [4.0, 5.0], [1 / np.std([1.0, 2.0, 9.0]), 1.0]),
        ("min_max", [1.0, 5.0], [1 / 8, 1.0]),
        ("robust", [2.0, 5.0], [1 / 4, 1.0]),
        ("none", [0.0, 0.0], [1.0, 1.0]),
    ],
)
def test_scalings(scaling: str, center: list[float], scale: list[float]) -> None:
    """Zero mean and unit deviation, the range 0 to 1, median 0 and quartiles 1 apart, or as they are; a constant
    column is centred only.
    """
    fitted = fit(scaling=scaling)
    assert isinstance(fitted.scaler, Affine)
    assert fitted.scaler.center.tolist() == center
    assert fitted.scaler.scale.tolist() == pytest.approx(scale, rel=1e-15)


@pytest.mark.parametrize(("imputation", "fill"), [("median", 2.0), ("mean", 4.0), ("mode", 1.0), ("constant", -1.0)])
def test_imputations(imputation: str, fill: float) -> None:
    """A missing number stands for the median, the mean, the most frequent value (the smallest of several) or a
    constant of the user's, before scaling.
    """
    fitted = fit(imputation=imputation, fill_value=-1.0, scaling="none")
    assert transformed(fitted, batch({"a": pa.nulls(1, pa.float64()), "b": [1.0]})).tolist() == [[fill, 1.0]]


def test_no_median_is_taken_where_nothing_may_be_missing() -> None:
    """A column that must have a value needs no stand-in, and so no sample."""
    required = tuple(Column(name, "numeric", nullable=False) for name in "ab")
    fitted = fit({"a": [1.0, 2.0], "b": [3.0, 5.0]}, columns=required)
    assert fitted.fill.tolist() == [0.0, 0.0]


def test_indicators_of_missing_values() -> None:
    """One more feature per column that may miss values, after the numbers: 1 where the value was missing."""
    columns = (Column("a", "numeric"), Column("b", "numeric", nullable=False))
    fitted = fit(columns=columns, indicators=True, scaling="none")
    assert fitted.shape == (3,)
    assert fitted.indicated == columns[:1]
    expected = [[2.0, 5.0, 1.0], [7.0, 6.0, 0.0]]
    assert transformed(fitted, batch({"a": [None, 7.0], "b": [5.0, 6.0]})).tolist() == expected
    few = fitted.transform_matrix(np.array([[np.nan, 5.0], [7.0, 6.0]]))
    assert few is not None
    assert few.tolist() == expected


def test_unit_length_of_the_filled_row() -> None:
    """`normalise` divides the row, missing values filled in, by its length; a row of zeros stays."""
    fitted = fit(scaling="normalise", imputation="constant", fill_value=4.0)
    rows = transformed(fitted, batch({"a": [3.0, None, 0.0], "b": [4.0, 3.0, 0.0]}))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.8, 0.6], [0.0, 0.0]], rtol=1e-7)


def test_a_column_without_a_value_is_refused() -> None:
    """It may have had values outside the training part; here it teaches nothing."""
    with pytest.raises(DataError, match="b must have a value in at least one training row"):
        fit({"a": [1.0, 2.0], "b": [float("nan"), float("nan")]})


@pytest.mark.parametrize(
    ("scaling", "values"),
    [("standardise", [1.7e308, -1.7e308]), ("min_max", [1.7e308, -1.7e308]), ("min_max", [0.0, 5e-324])],
)
def test_a_spread_beyond_float64_is_refused(scaling: str, values: list[float]) -> None:
    """No infinite, zero or NaN scale is ever fitted."""
    with pytest.raises(DataError, match="a must hold numbers of a spread that float64 can hold"):
        fit({"a": values, "b": [1.0, 2.0]}, scaling=scaling)


def test_stored_floats_are_exact() -> None:
    """center, scale and fill come back bit for bit; another version and short or non-finite arrays do not."""
    stored = fit({"a": [0.1, 1 / 3, None], "b": [1e-300, 2e-300, 7.0]}).to_json()
    again = FittedNumeric.from_json(stored, COLUMNS)
    assert again.to_json() == stored
    for change in ({"version": 0}, {"center": [1.0]}, {"fill": [1.0, float("inf")]}, {"scale": None}):
        with pytest.raises(StateError):
            FittedNumeric.from_json(stored | change, COLUMNS)


class TestFewRows:
    def test_missing_numbers_need_no_long_way(self) -> None:
        """None and NaN are imputed at once, in lists and in arrays."""
        fitted = fit()
        expected = transformed(fitted, batch({"a": [None, 1.0], "b": [2.0, 3.0]})).tobytes()
        for cells in ([None, 1.0], [float("nan"), 1], np.array([np.nan, 1.0])):
            few = fitted.transform_few({"a": cells, "b": [2.0, 3.0]}, 2)
            assert few is not None
            assert few.tobytes() == expected

    @pytest.mark.parametrize(
        "cells", [["1", 2.0], ["1", None], [[1.0], [2.0]], [1.0], 3.0, [1 + 2j, 1.0], [10**400, 1]]
    )
    def test_leaves_the_rest_to_the_columns_way(self, cells: Any) -> None:
        """Text, lists, other lengths and impossible numbers are not guessed at."""
        assert fit().transform_few({"a": cells, "b": [2.0, 3.0]}, 2) is None
