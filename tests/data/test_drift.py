"""Drift: none where nothing moved, all of it where something did, and no cry of wolf over few rows."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from corelane.data.dataset_profile import DataProfile
from corelane.data.drift import ColumnDrift, drift_from, stability_index
from corelane.data.profiling import Profiler
from corelane.data.schema import Column, Schema
from tests.data.examples import batch


def seen(columns: dict[str, Any], kinds: dict[str, Any] | None = None) -> tuple[DataProfile, Profiler]:
    kinds = dict.fromkeys(columns, "numeric") | (kinds or {})
    schema = Schema(tuple(Column(name, kind) for name, kind in kinds.items()), (), "classification")
    profiler = Profiler(schema)
    profiler.update(schema.check(batch(columns), needs_target=False).rows)
    return profiler.profile(), profiler


def drift(then: Any, now: Any, kind: Any = "numeric") -> ColumnDrift:
    """The drift of one column, its first profile read back from JSON."""
    reference, _ = seen({"x": then}, {"x": kind})
    stored = DataProfile.from_json(json.loads(json.dumps(reference.to_json())))
    (found,) = drift_from(stored, *seen({"x": now}, {"x": kind}))
    return found


def normal(size: int, mean: float = 0.0, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(mean, size=size)


def test_the_formula() -> None:
    """The index of two counts is the sum of (a - e) ln(a / e); that of equal counts is 0; an empty bin is finite."""
    expected, actual = np.array([50, 30, 20]) * 1000, np.array([20, 30, 50]) * 1000
    assert stability_index(expected, actual) == pytest.approx(0.6 * np.log(2.5), rel=1e-3)
    assert stability_index(expected, expected) == 0.0
    assert np.isfinite(stability_index(np.array([10, 0]), np.array([0, 10])))


@pytest.mark.parametrize(
    ("mean", "verdict"), [(0.0, "stable"), (0.2, "stable"), (0.4, "shifted"), (1.0, "changed"), (50.0, "changed")]
)
def test_numbers(mean: float, verdict: str) -> None:
    """A normal distribution that moves by a part of its deviation has shifted, by all of it is another."""
    found = drift(normal(20_000), normal(10_000, mean, seed=1))
    assert found.verdict == verdict
    assert found.psi is not None


@pytest.mark.parametrize("seed", range(20))
def test_few_rows_are_no_drift(seed: int) -> None:
    """Forty rows of the same distribution scatter far beyond 0.1, and are not called drift; a real one still is."""
    assert drift(normal(10_000), normal(40, seed=seed + 1)).verdict in ("stable", "too few rows")
    assert drift(normal(10_000), normal(40, 5.0, seed=seed + 1)).verdict == "changed"


def test_categories() -> None:
    """Shares that moved, and texts that are new, are told; the rare ones count together."""
    then = ["red"] * 600 + ["green"] * 400
    assert drift(then, then[::2], "categorical").verdict == "stable"
    found = drift(then, ["red"] * 300 + ["green"] * 400 + ["blue"] * 300, "categorical")
    assert (found.verdict, found.new_texts) == ("changed", ("blue",))
    many = [f"t{index % 100}" for index in range(10_000)]
    assert drift(many, [*many, "new"], "categorical").new_texts == ()


def test_missing_values() -> None:
    """A share of them that grew is drift, and told beside the index; a column that lost all its values has changed."""
    values = [float(value) for value in normal(1000)]
    found = drift(values, [None if index % 4 == 0 else value for index, value in enumerate(values)])
    assert found.missing_change == pytest.approx(0.25)
    assert found.verdict == "changed"
    assert drift(values, [None if index == 5 else value for index, value in enumerate(values)]).verdict == "stable"
    assert drift(values, [None] * 1000).verdict == "changed"
    assert drift(["a", "b"] * 500, pa.array([None] * 1000, pa.string()), "categorical").verdict == "changed"


def test_columns_that_come_go_or_change_their_kind() -> None:
    """Each is told by name; a column without values on either side cannot be compared."""
    reference, _ = seen({"a": [1.0], "b": [1.0], "c": [2.0], "e": pa.array([None], pa.float64())})
    current = seen({"a": [1.0], "b": ["x"], "d": [1.0], "e": [1.0]}, {"b": "categorical"})
    verdicts = {found.name: found.verdict for found in drift_from(reference, *current)}
    assert verdicts == {"a": "stable", "b": "other kind", "c": "gone", "d": "new", "e": "unknown"}


def test_a_constant_that_moves() -> None:
    """A column that was always 0 and is always 1 now has changed."""
    assert drift([0.0] * 1000, [1.0] * 1000).verdict == "changed"
    assert drift([0.0] * 1000, [0.0] * 1000).verdict == "stable"
