"""The one arithmetic kernel: exact, finite, and equal in its careful and its short form."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from corelane.core.types import Array
from corelane.data.stages.affine import LARGEST, Affine


def test_scales_in_float64_and_rounds_once() -> None:
    """(x - center) * scale in float64, whatever the dtype of x, rounded to float32 at the end only."""
    values = np.array([[16777217.0, 0.1]])
    affine = Affine(np.array([16777216.0, 0.1]), np.array([1.0, 3.0]))
    assert affine.apply(values).tolist() == [[1.0, 0.0]]
    assert affine.apply(np.array([[5, 1]], dtype=np.int8)).dtype == np.float32


def test_missing_values_become_the_scaled_fill() -> None:
    """NaN becomes exactly what the fill would have become as a value."""
    affine, fill = Affine(np.array([1 / 3, 2.0]), np.array([0.7, 1e-3])), np.array([5.1, -7.3])
    filled = affine.apply(np.array([[np.nan, 1.0], [2.0, np.nan]]), fill)
    plain = affine.apply(np.array([[5.1, 1.0], [2.0, -7.3]]))
    assert filled.tobytes() == plain.tobytes()


def test_clips_to_float32_without_a_warning() -> None:
    """A result beyond float32 is its largest finite value, with the sign kept."""
    affine = Affine(np.array([0.0]), np.array([1e300]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert affine.apply(np.array([[1e300], [-1e10]])).ravel().tolist() == [LARGEST, -LARGEST]
        assert affine.apply_ordinary(np.array([[1e300], [-1e10]])) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_unusual_number_among_many_is_noticed(value: float) -> None:
    """The dot product that stands for an element-wise test misses nothing, wherever the number is."""
    affine = Affine(np.array([0.5]), np.array([2.0]))
    for position in (0, 17, 99):
        values = np.ones((10, 10))
        values.flat[position] = value
        assert affine.apply_ordinary(values) is None


@given(values=hnp.arrays(np.float64, (3, 2), elements=st.floats(-1e30, 1e30)))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_short_form_gives_the_same_bits(values: Array) -> None:
    """For ordinary numbers `apply_ordinary` and `apply` agree to the last bit, in any memory order."""
    affine = Affine(np.array([0.1, -3.0]), np.array([1.7, 1e-5]))
    ordinary = affine.apply_ordinary(values)
    assert ordinary is not None
    assert ordinary.tobytes() == affine.apply(values).tobytes()
    turned = affine.apply_ordinary(np.asfortranarray(values))
    assert turned is not None
    assert turned.tobytes() == ordinary.tobytes()
