"""Random numbers that belong to rows: each is a pure function of (seed, epoch, the row's index, what it is for).

Whatever batch a row is in, whichever thread or machine works on it, and whether or not the run was interrupted, it gets
the same numbers. No generator is kept, and none of a library's, whose streams may change between releases. Called by
`augment.py`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from corelane.core.types import FloatArray, IntArray
from corelane.data.order import mix

_TABLE_STEPS = 4096  # of the inverse distribution function; its error is far below what a run could notice


class Draws:
    """The numbers of the rows `indices` [n] in one epoch. Every purpose has a stream of its own."""

    def __init__(self, seed: int, epoch: int, indices: IntArray) -> None:
        self._seed = seed
        self._epoch = epoch
        self._indices = indices

    def uniform(self, purpose: str, num: int = 1) -> NDArray[np.float64]:
        """`num` numbers a row, uniform in [0, 1): float64 [n, num], the upper 53 bits of mixed integers."""
        cells = (self._indices[:, None] * num + np.arange(num)).reshape(-1)
        bits = mix(cells, f"{purpose}:{num}", self._seed, self._epoch) >> np.uint64(11)
        return (bits.astype(np.float64) * 2.0**-53).reshape(-1, num)

    def happens(self, purpose: str, probability: float, num: int = 1) -> NDArray[np.bool_]:
        """True with `probability`, `num` times a row: bool [n, num]."""
        return self.uniform(purpose, num) < probability

    def below(self, purpose: str, end: int, num: int = 1) -> IntArray:
        """Whole numbers in [0, end), `num` a row: int64 [n, num]."""
        return (self.uniform(purpose, num) * end).astype(np.int64)

    def normal(self, purpose: str, num: int) -> FloatArray:
        """Standard normal numbers, `num` a row: float32 [n, num], by the method of Box and Muller (1958)."""
        pairs = self.uniform(purpose, 2 * num)
        radius = np.sqrt(-2.0 * np.log1p(-pairs[:, :num]))
        return (radius * np.cos(2.0 * np.pi * pairs[:, num:])).astype(np.float32)

    def beta(self, purpose: str, alpha: float) -> NDArray[np.float64]:
        """One number a row from the Beta(alpha, alpha) distribution: float64 [n]."""
        places, values = _beta_table(alpha)
        return np.interp(self.uniform(purpose)[:, 0], places, values)


@lru_cache(maxsize=8)
def _beta_table(alpha: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The distribution function of Beta(alpha, alpha) at some values, as (probabilities, values), both increasing.

    Below 1 the density x^(alpha-1) (1-x)^(alpha-1) has poles at both ends. With x = a / (a + b), a = u^(1/alpha),
    b = (1 - u)^(1/alpha) it becomes (a + b)^(-2 alpha) over u, up to a factor: bounded, and summed up trapezoid by
    trapezoid.
    """
    u = np.linspace(0.0, 1.0, _TABLE_STEPS + 1)
    if alpha < 1.0:
        a, b = u ** (1.0 / alpha), (1.0 - u) ** (1.0 / alpha)
        values, density = a / (a + b), (a + b) ** (-2.0 * alpha)
    else:
        values, density = u, (u * (1.0 - u)) ** (alpha - 1.0)
    places = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2.0)])
    return places / places[-1], values
