"""When the requests of a load come: a list of times, settled before the first is sent.

Open loop: how long an answer takes moves no later request, as with users who do not know each other. A generator that
waits for answers sends less when the server is slow, and so leaves out just the requests that would have waited
(coordinated omission; Tene, "How not to measure latency", 2013).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from corelane.core.errors import ConfigError
from corelane.core.types import Array

Shape: TypeAlias = Literal["constant", "poisson"]
Step: TypeAlias = tuple[float, float]
"""Requests a second, and for how many seconds."""

MAX_REQUESTS = 10_000_000


def arrivals(steps: Sequence[Step], shape: Shape, seed: int) -> Array:
    """The times of all requests, float64 [n] seconds from the start, ascending.

    Evenly spaced for a constant load, at random (exponential gaps) for a Poisson one; each step begins where the one
    before ends. Raises `ConfigError` for rates and durations that are not positive, or too many requests.
    """
    if not steps or any(rate <= 0 or duration_s <= 0 for rate, duration_s in steps):
        raise ConfigError(f"a load must be of rates and durations above 0, got {list(steps)}")
    total = sum(rate * duration_s for rate, duration_s in steps)
    if total > MAX_REQUESTS:
        raise ConfigError(f"a load must be of at most {MAX_REQUESTS} requests, got {total:.0f}; shorten it")
    random = np.random.default_rng(seed)
    parts, start_s = [], 0.0
    for rate, duration_s in steps:
        parts.append(start_s + _times(rate, duration_s, shape, random))
        start_s += duration_s
    return np.concatenate(parts)


def _times(rate: float, duration_s: float, shape: Shape, random: np.random.Generator) -> Array:
    if shape == "constant":
        return np.arange(max(1, round(rate * duration_s))) / rate
    number = random.poisson(rate * duration_s)  # given their number, a Poisson process's times are uniform
    return np.sort(random.uniform(0.0, duration_s, max(number, 1)))
