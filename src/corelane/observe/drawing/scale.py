"""Linear axes: round tick values, numbers as people write them, data to pixels. Used by the charts of `drawing`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_DRAWABLE = 1e300  # the largest float is 1.8e308; differences and the next round number above must stay below it


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps `low`..`high` (data) to `start`..`end` (pixels); `ticks` are round numbers within."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def __call__(self, value: float) -> float:
        """The pixel of `value`."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def is_drawable(value: float) -> bool:
    """Whether `value` has a place on an axis: not NaN, not infinite, and not so large that a round axis overflows."""
    return abs(value) < MAX_DRAWABLE


def extent(values: Iterable[float]) -> tuple[float, float]:
    """The smallest and the largest value that can be drawn; (0, 1) where there is none."""
    finite = [float(value) for value in values if is_drawable(value)]
    return (min(finite), max(finite)) if finite else (0.0, 1.0)


def value_scale(low: float, high: float, start: float, end: float, num_ticks: int = 5) -> Scale:
    """A scale from the round number at or below `low` to the one at or above `high`.

    It starts at 0 where the values are positive and reach down to less than a third of the largest: a curve that falls
    towards 0 should be seen to do so, while one between 0.97 and 0.99 needs the room.
    """
    if 0 < low < high / 3:
        low = 0.0
    low, high = _apart(low, high)
    step = round_step((high - low) / num_ticks)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(_clean(index * step) for index in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], start, end, ticks)


def position_scale(low: float, high: float, start: float, end: float, num_ticks: int = 6) -> Scale:
    """A scale over exactly `low`..`high` with round ticks inside; whole numbers where both ends are whole."""
    low, high = _apart(low, high)
    step = round_step((high - low) / num_ticks)
    if low == int(low) and high == int(high):
        step = max(1.0, step)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Scale(low, high, start, end, tuple(_clean(index * step) for index in range(first, last + 1)))


def round_step(rough: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is not below `rough` (which is above 0)."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(
        (factor * power for factor in (1.0, 2.0, 2.5, 5.0) if factor * power >= rough * (1 - 1e-9)), 10.0 * power
    )


def shown(value: float) -> str:
    """A number for a reader: four significant digits, thousands apart, no exponent between 0.0001 and ten million."""
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "−∞"}.get(value, "NaN")
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e7:
        mantissa, exponent = f"{value:.3g}".split("e") if "e" in f"{value:.3g}" else (f"{value:.3g}", "")
        return (f"{mantissa}e{int(exponent)}" if exponent else mantissa).replace("-", "−")
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    decimals = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def aligned(values: Sequence[float], max_decimals: int = 9) -> list[str]:
    """`values` as `shown` writes them, but with equally many decimals, as ticks and columns of a table have."""
    texts = [shown(value) for value in values]
    if any("e" in text for text in texts):
        return texts
    decimals = min(max_decimals, max((len(text.partition(".")[2]) for text in texts), default=0))
    return [
        f"{value:,.{decimals}f}".replace("-", "−") if math.isfinite(value) else text
        for value, text in zip(values, texts, strict=True)
    ]


def _apart(low: float, high: float) -> tuple[float, float]:
    # Equal, or so close that floats between them run out: open a window around them.
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    margin = abs(low) / 2 or 0.5
    return low - margin, high + margin


def _clean(value: float) -> float:
    return float(f"{value:.12g}") + 0.0  # 0.30000000000000004 and -0.0 are not tick values
