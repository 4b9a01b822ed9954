"""The bounded sample: a function of positions and seed, not of batches."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from corelane.data.sample import RowSample

SCHEMA = pa.schema([("value", pa.int64())])


def _sample(num_rows: int, batch_rows: int, size: int = 100, seed: int = 7) -> list[int]:
    sample = RowSample(size, seed)
    for first in range(0, num_rows, batch_rows):
        positions = np.arange(first, min(first + batch_rows, num_rows))
        sample.add(pa.RecordBatch.from_arrays([pa.array(positions * 2)], schema=SCHEMA), positions)
    return sample.table(SCHEMA)["value"].to_pylist()


@pytest.mark.parametrize("batch_rows", [1, 7, 250, 10_000])
def test_the_rows_do_not_depend_on_the_batches(batch_rows: int) -> None:
    """Whatever the batches, the same 100 of 3,000 rows are taken, in source order, spread over all of them."""
    values = _sample(3000, batch_rows)
    assert values == _sample(3000, 3000)
    assert values == sorted(values)
    assert len(set(values)) == 100
    assert abs(np.mean(values) - 3000) < 600
    assert values != _sample(3000, batch_rows, seed=8)


@pytest.mark.parametrize("num_rows", [0, 1, 99, 100])
def test_few_rows_are_all_taken(num_rows: int) -> None:
    """When there are no more rows than places the sample is all of them, and an empty one keeps its columns."""
    assert _sample(num_rows, 30) == [2 * index for index in range(num_rows)]
    assert RowSample(5, 0).table(SCHEMA).schema == SCHEMA
