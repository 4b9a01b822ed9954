"""`model.golden`: rows with known answers, kept in a file and asked again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from corelane.core.errors import BundleError, GoldenError
from corelane.model.export import reference_predictor
from corelane.model.golden import MAX_GOLDEN, Golden, write_arrow
from corelane.model.skew import Tolerance
from tests.model import examples
from tests.model.examples import Example

SOURCES = [examples.mixed, examples.matrix, examples.regression, examples.images]


@pytest.mark.parametrize("make", SOURCES)
def test_rows_and_answers_survive_the_file(make: Callable[[], Example], tmp_path: Path) -> None:
    """What is read equals what was written, tensors and missing values included, and the predictor passes."""
    source = make()
    with reference_predictor(source.module(), source) as predictor:
        golden = Golden.of(predictor, source.gate)
        golden.write(tmp_path / "golden.arrow")
        again = Golden.parse((tmp_path / "golden.arrow").read_bytes(), tmp_path / "golden.arrow")
        again.check(predictor, Tolerance.fp32(source.pipeline.target), name="sample")
    assert again.rows.equals(golden.rows)
    assert 0 < again.rows.num_rows <= MAX_GOLDEN
    for name, values in golden.expected.items():
        assert again.expected[name].dtype == values.dtype
        np.testing.assert_array_equal(again.expected[name], values)


def test_missing_and_unseen_values_are_among_them() -> None:
    """Golden rows ask what a client may send, not only what was common in training."""
    source = examples.mixed()
    with reference_predictor(source.module(), source) as predictor:
        rows = Golden.of(predictor, source.gate).rows
    islands = rows.column("island").to_pylist()
    assert None in islands
    assert set(islands) - {"a", "b", "c", None}


def test_another_network_is_caught() -> None:
    """A predictor with other weights raises GoldenError that calls the package by name."""
    source = examples.mixed()
    with (
        reference_predictor(source.module(seed=0), source) as predictor,
        reference_predictor(source.module(seed=1), source) as other,
        pytest.raises(GoldenError, match="package sample must reproduce its golden rows"),
    ):
        Golden.of(predictor, source.gate).check(other, Tolerance.fp32(source.pipeline.target), name="sample")


@pytest.mark.parametrize("table", [pa.table({"a": [1]}), pa.table({"row.a": pa.array([], pa.float64())}), None])
def test_a_file_that_holds_no_golden_rows_is_refused(table: pa.Table | None, tmp_path: Path) -> None:
    """Other columns, no rows, or no Arrow file at all: a BundleError that names the file."""
    path = tmp_path / "golden.arrow"
    if table is None:
        path.write_bytes(b"ARROW1 but not really")
    else:
        write_arrow(path, table)
    with pytest.raises(BundleError, match=r"golden\.arrow must"):
        Golden.parse(path.read_bytes(), path)
