"""The pace of a model: a straight line from two measurements, on neutral rows that every schema accepts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from corelane.core.clock import ManualClock
from corelane.model.package import ModelPackage
from corelane.serve.pace import Pace, measure_pace, neutral_columns
from tests.serve.packages import image_package, mixed_package, numeric_package


def test_the_expected_time_is_a_line() -> None:
    """A run costs a fixed time and a time per row."""
    assert Pace(fixed_s=1.0, row_s=0.5).expected_s(4) == 3.0


@pytest.mark.parametrize("make", [numeric_package, mixed_package, image_package, partial(image_package, encoded=True)])
def test_neutral_rows_are_accepted_by_the_model(make: Callable[[Path], Path], tmp_path: Path) -> None:
    """Neutral rows pass the checks of numeric, categorical and image columns, limits and image files included."""
    package = ModelPackage.load(make(tmp_path))
    with package.predictor() as predictor:
        answers = predictor.predict_columns(neutral_columns(package.pipeline.schema.columns, 3))
    assert all(len(array) == 3 for array in answers.values())


def test_the_line_goes_through_one_row_and_a_full_batch(tmp_path: Path) -> None:
    """With a clock that tells 2 s for one row and 5 s for four, a row costs 1 s and a run another."""
    clock = ManualClock()

    class Slow:
        pipeline = ModelPackage.load(numeric_package(tmp_path)).pipeline

        def predict_columns(self, columns: dict[str, list[float]]) -> None:
            clock.sleep(1.0 + len(columns["x0"]))

    pace = measure_pace(Slow(), 4, clock)  # type: ignore[arg-type]
    assert (pace.fixed_s, pace.row_s) == (1.0, 1.0)
