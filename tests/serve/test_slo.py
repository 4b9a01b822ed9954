"""What a promise about latency says, and the model of how long runs take that it is kept with."""

from __future__ import annotations

import numpy as np
import pytest

from corelane.core.errors import ConfigError
from corelane.serve.config import ServeConfig
from corelane.serve.pace import Pace
from corelane.serve.slo import Slo
from corelane.serve.tail import MARGIN, TailModel


@pytest.mark.parametrize(
    ("text", "slo"),
    [("p99=20ms", Slo(0.99, 0.02)), ("p99.9=1.5s", Slo(0.999, 1.5)), ("p50=500us", Slo(0.5, 0.0005))],
)
def test_a_promise_is_read(text: str, slo: Slo) -> None:
    """A quantile and a time with its unit."""
    read = Slo.parse(text)
    assert (read.quantile, read.seconds) == (pytest.approx(slo.quantile), pytest.approx(slo.seconds))
    assert ServeConfig(slo=text).slo == text


@pytest.mark.parametrize(
    "text", ["20ms", "p99=20", "p99=0ms", "p10=1s", "p100=1s", "p99=9999s", "p99 = 20ms", "", "p٩٩=20ms"]
)
def test_what_is_no_promise_is_told(text: str) -> None:
    """By the form it must have."""
    with pytest.raises(ConfigError, match="the SLO must be"):
        Slo.parse(text)
    with pytest.raises(ValueError, match=r"must be (like|from p50)"):
        ServeConfig(slo=text)


def test_the_quantile_is_followed() -> None:
    """Of runs whose times vary, nearly all end within it; it follows a machine that becomes slower, and back."""
    tail = TailModel(Pace(fixed_s=0.001, row_s=0.0), batch_size=32)
    random = np.random.default_rng(0)
    assert tail.high_s(32) == pytest.approx(MARGIN * 0.001)
    for scale in (1.0, 10.0, 1.0):
        times = 0.001 * scale * (1 + random.exponential(0.2, size=3000))
        for seconds in times.tolist():
            tail.ran(32, seconds)
        assert np.mean(times <= tail.high_s(32)) > 0.95
        assert tail.high_s(32) < 3 * float(np.quantile(times, 0.99))
        assert tail.slowness == pytest.approx(scale * 1.2, rel=0.3)
        assert tail.drain_s(320) == pytest.approx(10 * tail.expected_s(32))


def test_sizes_have_quantiles_of_their_own() -> None:
    """What large batches take says nothing about small ones; beyond a batch the largest counts."""
    tail = TailModel(Pace(fixed_s=0.001, row_s=0.001), batch_size=8)
    for _ in range(200):
        tail.ran(8, 0.5)
    assert tail.high_s(8) == tail.high_s(1000) > 0.4
    assert tail.high_s(1) == pytest.approx(MARGIN * 0.002)
