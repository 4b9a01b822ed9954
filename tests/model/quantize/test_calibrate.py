"""`model.quantize.calibrate`: ranges by the method whose graph answers closest."""

from __future__ import annotations

import numpy as np
import pytest

from corelane.core.errors import ConfigError
from corelane.model.quantize.calibrate import calibrate
from tests.model.quantize.examples import trained


def test_the_method_with_the_least_error_is_taken() -> None:
    """All three are tried, and the one taken is within 2 % of the best."""
    found = calibrate(trained().graph, trained().calibration)
    assert set(found.errors) == {"minmax", "entropy", "percentile"}
    assert found.errors[found.method] * 0.98 <= min(found.errors.values())


def test_an_outlier_does_not_cost_the_rest() -> None:
    """One pixel of 300 among the rows would spread 256 steps over a range that nothing else uses: it is cut off."""
    batches = [dict(batch) for batch in trained().calibration]
    batches[0] = {"image": batches[0]["image"].copy()}
    batches[0]["image"][0, 0, 0, 0] = 300.0
    found = calibrate(trained().graph, batches)
    assert found.method != "minmax"
    assert found.errors[found.method] < 0.5 * found.errors["minmax"]


def test_it_needs_rows() -> None:
    """A package without rows says so, and what to do."""
    with pytest.raises(ConfigError, match="calibration must have at least one row"):
        calibrate(trained().graph, [])
    assert np.isfinite(calibrate(trained().graph, trained().calibration[:1]).errors["minmax"])
