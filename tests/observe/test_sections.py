"""Sections that do not fit together are refused when they are made, with the place that is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from corelane.core.errors import ConfigError
from corelane.observe.sections import Bars, Histogram, Matrix, Scatter, Series, Table


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Series("loss", [1, 2], [0.5]), "x and y of 'loss' must be of equal length, got 2 and 1"),
        (
            lambda: Scatter("residuals", "a", "b", [], [1.0]),
            "x and y of 'residuals' must be of equal length, got 0 and 1",
        ),
        (
            lambda: Histogram("age", ["0 to 1"], [1, 2], "0", "1"),
            "x and y of 'age' must be of equal length, got 1 and 2",
        ),
        (lambda: Bars("colour", ["red"], []), "x and y of 'colour' must be of equal length, got 1 and 0"),
        (lambda: Table("times", ("a", "b"), [(1, 2), (3,)]), "row 1 of table 'times' must have 2 cells, got 1"),
        (
            lambda: Matrix("confusion", ("a", "b"), ("a", "b"), [[1, 2]]),
            r"counts of matrix 'confusion' must be of shape \(2, 2\), got \(1, 2\)",
        ),
        (
            lambda: Matrix("confusion", ("a", "b"), ("a", "b"), [[1, 2], [3]]),
            r"counts of matrix 'confusion' must be of shape \(2, 2\), got a row of 1",
        ),
    ],
)
def test_a_section_that_does_not_fit_is_refused(make: Callable[[], object], message: str) -> None:
    """Unequal lengths and ragged rows are errors here, not a broken picture later."""
    with pytest.raises(ConfigError, match=message):
        make()
