"""What bodes ill is told with its column, and ordinary data raise no concern."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from corelane.data.concerns import concerns_of
from corelane.data.profiling import Profiler
from corelane.data.schema import Column, Kind, Schema
from corelane.data.stages.column import Column as TargetColumn
from tests.data.examples import LABEL, batch

NUM_ROWS = 1000


def concerns(values: Any, kind: Kind = "numeric", labels: Any = None, task: Any = "classification") -> list[str]:
    """Codes and columns of the concerns about a column "x" and a target "label"."""
    labels = ["no", "yes"] * (NUM_ROWS // 2) if labels is None else labels
    target = LABEL if task == "classification" else TargetColumn("label", "numeric", nullable=False)
    profiler = Profiler(Schema((Column("x", kind),), (target,), task))
    profiler.update(batch({"x": values, "label": labels}))
    return [f"{concern.code} {concern.column}" for concern in concerns_of(profiler.profile())]


NORMAL = np.random.default_rng(0).normal(size=NUM_ROWS)
ROWS = np.arange(NUM_ROWS)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (NORMAL, "numeric", []),
        (ROWS % 7.0, "numeric", []),
        ([("a", "b")[row % 2] for row in ROWS], "categorical", []),
        ([3.0] * NUM_ROWS, "numeric", ["constant x"]),
        (["a"] * NUM_ROWS, "categorical", ["constant x"]),
        (["a", None] * (NUM_ROWS // 2), "categorical", []),
        ([3.0, None] * (NUM_ROWS // 2), "numeric", ["constant x"]),
        ([None if row % 50 else float(NORMAL[row]) for row in ROWS], "numeric", ["nearly_empty x"]),
        (ROWS * 1.0, "numeric", ["identifier x"]),
        ([f"r{row}" for row in ROWS], "categorical", ["identifier x"]),
    ],
)
def test_features(values: Any, kind: Kind, expected: list[str]) -> None:
    """Constant, nearly empty and all different columns; quantities and categories are fine."""
    assert concerns(values, kind) == expected


@pytest.mark.parametrize(
    ("num_rare", "expected"), [(500, []), (100, []), (10, []), (9, ["rare_label label"]), (1, ["rare_label label"])]
)
def test_rare_labels(num_rare: int, expected: list[str]) -> None:
    """A label with fewer than ten rows or under 1 % of them is told."""
    assert concerns(NORMAL, labels=["rare"] * num_rare + ["often"] * (NUM_ROWS - num_rare)) == expected


def test_quantities_to_predict() -> None:
    """A regression has no labels; a target that never changes is told, one that always does is not."""
    assert concerns(NORMAL, labels=ROWS * 1.0, task="regression") == []
    assert concerns(NORMAL, labels=[2.0] * NUM_ROWS, task="regression") == ["constant label"]
