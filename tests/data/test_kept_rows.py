"""What is kept of the rows beside the arrays: bounded samples, and a profile of the training rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from corelane.core.types import Array
from corelane.data.kept_rows import Kept, KeptRows
from corelane.data.pipeline import Pipeline
from corelane.data.schema import Column
from corelane.data.stages.cast_tensor import tensor_array
from tests.data.examples import batch, fitted

NUM_ROWS = 3000


def kept(pipeline: Pipeline, columns: dict[str, Any], parts: Array, piece: int = 700) -> Kept:
    """Rows with two labels taking turns, divided by `parts`, shown `piece` at a time."""
    rows = batch({**columns, "label": [("no", "yes")[index % 2] for index in range(NUM_ROWS)]})
    keeper = KeptRows(pipeline, seed=3)
    for start in range(0, NUM_ROWS, piece):
        part = rows.slice(start, piece)
        chosen = [np.flatnonzero(parts[start : start + piece] == number) for number in range(3)]
        keeper.add(part, np.arange(start, start + part.num_rows), chosen)
    return keeper.finish()


def test_samples_and_profile() -> None:
    """At most a thousand rows of each part; the profile counts the training rows and all of their labels."""
    pipeline = fitted([Column("x", "numeric")], {"x": np.arange(1500.0)})
    parts = np.arange(NUM_ROWS) // 1500
    found = kept(pipeline, {"x": np.arange(NUM_ROWS, dtype=np.float64)}, parts)
    assert {name: table.num_rows for name, table in found.samples.items()} == {
        "calibration": 1000,
        "holdout": 1000,
        "gate": 1000,
    }
    assert found.samples["gate"].equals(found.samples["holdout"])
    target = found.profile.column("label")
    assert target is not None
    assert (found.profile.num_rows, target.top) == (1500, (("no", 750), ("yes", 750)))
    numbers = found.profile.columns[0].numbers
    assert numbers is not None
    assert (numbers.minimum, numbers.maximum) == (0.0, 1499.0)


def test_pieces_do_not_matter() -> None:
    """However the rows come, the same ones are kept."""
    pipeline = fitted([Column("x", "numeric")], {"x": [1.0, 2.0, 4.0]})
    columns, parts = {"x": np.random.default_rng(0).normal(size=NUM_ROWS)}, np.arange(NUM_ROWS) % 3
    one, other = kept(pipeline, columns, parts, 100), kept(pipeline, columns, parts, 3000)
    assert one.profile == other.profile
    assert all(one.samples[name].equals(table) for name, table in other.samples.items())


def test_tensors_are_not_profiled() -> None:
    """A column of vectors is named in the profile, and costs it no memory."""
    values = np.zeros((NUM_ROWS, 4), dtype=np.float32)
    pipeline = fitted([Column("x", "tensor", shape=(4,), nullable=False)], {"x": values[:4]})
    found = kept(pipeline, {"x": tensor_array(values)}, np.zeros(NUM_ROWS))
    column = found.profile.column("x")
    assert column is not None
    assert (column.kind, column.numbers, column.num_missing) == ("tensor", None, 0)
