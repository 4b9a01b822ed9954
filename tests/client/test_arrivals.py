"""When requests come: as many as the rate says, in order, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from corelane.client.arrivals import arrivals
from corelane.core.errors import ConfigError


def test_a_constant_load_is_evenly_spaced() -> None:
    """Each step begins where the one before ends."""
    times = arrivals([(10.0, 1.0), (100.0, 0.5)], "constant", 0)
    assert len(times) == 60
    np.testing.assert_allclose(times[:10], np.arange(10) / 10)
    np.testing.assert_allclose(times[10:], 1.0 + np.arange(50) / 100)


def test_a_poisson_load_has_its_rate_and_its_bursts() -> None:
    """The number's deviation is its root, and gaps are exponential: their deviation is their mean."""
    times = arrivals([(1000.0, 20.0)], "poisson", 1)
    assert abs(len(times) - 20_000) < 5 * np.sqrt(20_000)
    gaps = np.diff(times)
    assert (gaps >= 0).all()
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
    np.testing.assert_array_equal(times, arrivals([(1000.0, 20.0)], "poisson", 1))
    assert not np.array_equal(times[:100], arrivals([(1000.0, 20.0)], "poisson", 2)[:100])


@pytest.mark.parametrize("steps", [[], [(0.0, 1.0)], [(1.0, 0.0)], [(-1.0, 1.0)], [(1e6, 1e6)]])
def test_a_load_that_is_none_is_refused(steps: list[tuple[float, float]]) -> None:
    """Nothing, standing still, or too much to keep."""
    with pytest.raises(ConfigError, match="a load must be of"):
        arrivals(steps, "poisson", 0)
