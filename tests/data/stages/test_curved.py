"""Curves and unit vectors: the same bits in both forms and any layout, and no number that overflows."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from corelane.data.stages.affine import Affine
from corelane.data.stages.curved import Curved, QuantileTable, UnitLength, signed_log

LINE = Affine(np.array([0.5, 0.0, 0.0, 1.0]), np.array([2.0, 1.0, 1.0, 1.0]))
TABLE = QuantileTable(np.array([0.0, 1.0, 3.0]), np.array([0.0, 0.4, 1.0]))
CURVED = Curved(LINE, (0,), {1: TABLE}, (2, 3))


@pytest.mark.parametrize("num_rows", [0, 1, 3, 1000])
def test_layout_does_not_change_bits(num_rows: int) -> None:
    """Row by row, all at once, by row or by column in memory, strided: the same bits."""
    values = np.random.default_rng(0).normal(size=(num_rows, 4)) * 1e3
    expected = CURVED.apply(values).tobytes()
    wide = np.zeros((num_rows, 9))
    wide[:, ::2][:, :4] = values
    for same in (np.asfortranarray(values), wide[:, ::2][:, :4]):
        assert CURVED.apply(same).tobytes() == expected
        ordinary = CURVED.apply_ordinary(same)
        assert ordinary is not None
        assert ordinary.tobytes() == expected
    assert b"".join(CURVED.apply(row[None]).tobytes() for row in values) == expected


def test_missing_values_become_what_the_fill_would() -> None:
    """A NaN passes every curve as its fill does, and counts for the length of the vector."""
    fill = np.array([3.0, 2.0, 4.0, 3.0])
    assert CURVED.apply(np.full((1, 4), np.nan), fill).tobytes() == CURVED.apply(fill[None]).tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_short_form_leaves_unusual_numbers(value: float) -> None:
    """They need the check, which decides whether they are missing or refused."""
    assert CURVED.apply_ordinary(np.array([[1.0, 1.0, value, 1.0]])) is None
    assert UnitLength().apply_ordinary(np.array([[1.0, value]])) is None


def test_nothing_overflows() -> None:
    """The largest and smallest numbers give finite results without a warning, and vectors keep their direction."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        huge = CURVED.apply(np.array([[1.7e308, 1e308, 1.7e308, 1.7e308], [-1.7e308, -1e308, 5e-324, 5e-324]]))
    np.testing.assert_allclose(huge[:, 2:], np.sqrt(0.5), rtol=1e-6)
    assert np.isfinite(huge).all()
    assert huge[:, 1].tolist() == [1.0, 0.0]


def test_the_table_is_straight_between_its_points() -> None:
    """And level outside; a single point is level everywhere."""
    heights = TABLE.apply(np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_allclose(heights, [0.0, 0.0, 0.2, 0.4, 0.7, 1.0, 1.0])
    assert QuantileTable(np.array([5.0]), np.array([0.5])).apply(np.array([4.0, 5.0, 6.0])).tolist() == [0.5] * 3


def test_signed_log() -> None:
    """Odd, zero at zero with its sign, NaN kept."""
    logs = signed_log(np.array([np.e - 1, 1 - np.e, 0.0, np.nan]))
    np.testing.assert_allclose(logs, [1.0, -1.0, 0.0, np.nan])
