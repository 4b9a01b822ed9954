"""Axes: ticks are round and inside, the data fit, and numbers are written as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelane.observe.drawing.scale import aligned, extent, position_scale, round_step, shown, value_scale

VALUES = st.floats(-1e12, 1e12).filter(lambda value: value == 0 or abs(value) > 1e-12)


@given(VALUES, VALUES)
def test_a_value_axis_holds_its_data_between_round_ticks(one: float, other: float) -> None:
    """Both ends of the data lie within the axis; ticks rise evenly and there are few of them."""
    low, high = min(one, other), max(one, other)
    scale = value_scale(low, high, 300.0, 0.0)
    tolerance = 1e-9 * max(abs(low), abs(high), 1e-300)
    assert scale.low <= low + tolerance
    assert scale.high >= high - tolerance
    assert 2 <= len(scale.ticks) <= 13
    assert list(scale.ticks) == sorted(set(scale.ticks))
    assert scale(scale.low) == 300.0
    assert scale(scale.high) == pytest.approx(0.0, abs=1e-6)


@given(VALUES, VALUES)
def test_ticks_of_a_position_axis_lie_within(one: float, other: float) -> None:
    """The x axis ends where the data end; no tick stands outside."""
    scale = position_scale(min(one, other), max(one, other), 0.0, 500.0)
    assert all(-0.01 <= scale(tick) <= 500.01 for tick in scale.ticks)


def test_epochs_have_whole_ticks() -> None:
    """An axis from epoch 1 to 3 has the ticks 1, 2, 3 and none in between."""
    assert position_scale(1, 3, 0, 100).ticks == (1, 2, 3)


def test_a_falling_loss_is_seen_against_zero_and_an_accuracy_close_up() -> None:
    """Positive values that come down far are drawn from 0; those in a narrow band fill the chart."""
    assert value_scale(0.05, 2.0, 300, 0).low == 0
    assert value_scale(0.97, 0.99, 300, 0).low == 0.97


def test_equal_values_open_a_window() -> None:
    """A constant has an axis around it rather than a division by zero."""
    for value in (0.0, 5.0, -1e-9):
        scale = value_scale(value, value, 300, 0)
        assert scale.low < value < scale.high


@given(st.floats(1e-12, 1e12))
def test_steps_are_round(rough: float) -> None:
    """1, 2, 2.5 or 5 times a power of ten, no smaller than asked for and no more than 2.5 times larger."""
    step = round_step(rough)
    assert rough * (1 - 1e-6) <= step <= rough * 2.5
    assert f"{step:.1e}".split("e")[0] in {"1.0", "2.0", "2.5", "5.0"}


def test_extent_ignores_what_is_not_finite() -> None:
    """NaN and infinities do not stretch an axis; without any value there is still an axis."""
    assert extent([math.nan, 2.0, math.inf, -1.0]) == (-1.0, 2.0)
    assert extent([math.nan, 1.7e308]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1"),
        (85002, "85,002"),
        (38211.4, "38,211"),
        (0.98333333, "0.9833"),
        (41.256, "41.26"),
        (-0.5, "−0.5"),
        (0.0001, "0.0001"),
        (9.87e-9, "9.87e−9"),
        (1e7, "1e7"),
        (-1.5e300, "−1.5e300"),
        (math.nan, "NaN"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
    ],
)
def test_numbers_are_written_for_readers(value: float, text: str) -> None:
    """Four significant digits, thousands apart, a real minus sign, exponents only far out."""
    assert shown(value) == text


def test_a_column_has_equally_many_decimals() -> None:
    """What stands under each other lines up at the decimal point; what is not finite is left as it is."""
    assert aligned([24.31, 7.8, 1000.0]) == ["24.31", "7.80", "1,000.00"]
    assert aligned([1.0, 2.0]) == ["1", "2"]
    assert aligned([0.5, math.nan]) == ["0.5", "NaN"]
    assert aligned([0.12345678, 1.0], 2) == ["0.12", "1.00"]
    assert aligned([1e-9, 0.5]) == ["1e−9", "0.5"]
