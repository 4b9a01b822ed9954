"""`model.batch`: every row that goes in comes out, in order, whatever the batches."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from corelane.core.errors import ConfigError
from corelane.core.types import Array, NamedArrays
from corelane.data.batch import Batch, BrokenRow, Cursor
from corelane.model.batch import OptimizedBatchProcessor
from corelane.model.decode import decoder_of
from corelane.model.export import reference_predictor
from corelane.model.predictor import Predictor
from corelane.model.runtimes.base import LOGITS
from tests.model import examples
from tests.model.examples import Example


def batches_of(raw: pa.RecordBatch, size: int) -> Iterator[Batch]:
    for start in range(0, raw.num_rows, size):
        rows = raw.slice(start, size)
        yield Batch(rows, start, Cursor("memory", "x", start + rows.num_rows))


def scored(source: Example, raw: pa.RecordBatch, *, size: int, batch_size: int, num_threads: int = 2) -> pa.Table:
    with (
        reference_predictor(source.module(), source) as predictor,
        OptimizedBatchProcessor(batch_size, num_threads, predictor=predictor) as processor,
    ):
        return pa.Table.from_batches(list(processor.score(batches_of(raw, size))))


def test_constructor_has_the_promised_defaults() -> None:
    """batch_size 32 and num_threads 8 when constructed by hand."""
    source = examples.matrix(4, 3)
    with OptimizedBatchProcessor(predictor=reference_predictor(source.module(), source)) as processor:
        assert (processor.batch_size, processor.num_threads) == (32, 8)


@pytest.mark.parametrize(("batch_size", "num_threads"), [(0, 1), (1, 0), (-1, 8)])
def test_sizes_below_one_are_refused(batch_size: int, num_threads: int) -> None:
    """A processor that exists can work."""
    source = examples.matrix(4, 3)
    with pytest.raises(ConfigError, match="batch_size and num_threads must be at least 1"):
        OptimizedBatchProcessor(batch_size, num_threads, predictor=reference_predictor(source.module(), source))


@pytest.mark.parametrize(("size", "batch_size", "num_threads"), [(60, 32, 8), (7, 3, 2), (1, 1, 1), (60, 100, 2)])
def test_results_are_in_order_however_it_is_cut(size: int, batch_size: int, num_threads: int) -> None:
    """Labels and probabilities by row equal those of one call over all rows."""
    source = examples.mixed()
    with reference_predictor(source.module(), source) as predictor:
        expected = predictor.predict_table(source.checked.select(list(source.pipeline.schema.names)))
    table = scored(source, source.raw, size=size, batch_size=batch_size, num_threads=num_threads)
    assert table.column_names == ["row", "label", "probability.x", "probability.y", "probability.z", "rejected"]
    assert table["row"].to_pylist() == list(range(60))
    assert table["label"].to_pylist() == expected["label"].tolist()
    assert table["rejected"].null_count == 60
    probabilities = np.stack([table[f"probability.{label}"].to_numpy() for label in "xyz"], axis=1)
    np.testing.assert_allclose(probabilities, expected["probabilities"], rtol=1e-5)


def test_a_regression_gives_one_value_per_row() -> None:
    """`value` in the target's unit."""
    table = scored(examples.regression(), examples.regression().raw, size=50, batch_size=8)
    assert table.column_names == ["row", "value", "rejected"]
    assert table["value"].null_count == 0


def test_rejected_and_broken_rows_keep_their_place() -> None:
    """A row that is refused or could not be read is there with its reason and without an answer."""
    source = examples.mixed()
    raw = source.raw.slice(0, 6)
    sex = raw.column("sex").to_pylist()
    sex[1] = "q"
    raw = raw.set_column(2, "sex", pa.array(sex))
    broken = (BrokenRow(2, "must have 4 cells, got 5", "a,b"), BrokenRow(7, "must have 4 cells, got 1", "a"))
    batch = Batch(raw, 0, Cursor("memory", "x", 8), broken)
    with (
        reference_predictor(source.module(), source) as predictor,
        OptimizedBatchProcessor(2, 2, predictor=predictor) as processor,
    ):
        table = pa.Table.from_batches(list(processor.score([batch])))
    assert table["row"].to_pylist() == list(range(8))
    reasons = table["rejected"].to_pylist()
    assert [index for index, reason in enumerate(reasons) if reason] == [1, 2, 7]
    assert "sex" in reasons[1]
    assert reasons[2] == "must have 4 cells, got 5"
    assert [index for index, label in enumerate(table["label"].to_pylist()) if label is None] == [1, 2, 7]


def test_a_batch_without_a_single_good_row_is_scored() -> None:
    """All rejected: no answers, all reasons, for every kind of network."""
    source = examples.mixed()
    raw = source.raw.slice(0, 3).set_column(2, "sex", pa.array(["q"] * 3))
    table = scored(source, raw, size=3, batch_size=2)
    assert table["label"].to_pylist() == [None] * 3
    assert table["rejected"].null_count == 0


def test_an_empty_source_gives_nothing() -> None:
    """No batch in, no batch out."""
    source = examples.mixed()
    with (
        reference_predictor(source.module(), source) as predictor,
        OptimizedBatchProcessor(predictor=predictor) as processor,
    ):
        assert list(processor.score([])) == []


def test_truth_comes_with_the_answers_when_asked() -> None:
    """`run(needs_target=True)` hands the target of the accepted rows beside their answers."""
    source = examples.mixed()
    with (
        reference_predictor(source.module(), source) as predictor,
        OptimizedBatchProcessor(16, 2, predictor=predictor) as processor,
    ):
        parts = list(processor.run(batches_of(source.raw, 25), needs_target=True))
    truth = [label for part in parts for label in part.checked.rows.column("species").to_pylist()]
    assert truth == source.raw.column("species").to_pylist()
    assert sum(len(part.answers["label"]) for part in parts) == 60
    assert np.concatenate([part.positions for part in parts]).tolist() == list(range(60))


class Gathering:
    """A runtime whose calls wait for one another: it answers only if `num_threads` of them are in it at once."""

    def __init__(self, num_threads: int, num_outputs: int) -> None:
        self._barrier = threading.Barrier(num_threads, timeout=30)
        self._num_outputs = num_outputs

    def run(self, inputs: NamedArrays) -> dict[str, Array]:
        self._barrier.wait()
        num_rows = len(next(iter(inputs.values())))
        return {LOGITS: np.zeros((num_rows, self._num_outputs), dtype=np.float32)}

    def close(self) -> None:
        self._barrier.abort()


def test_batches_are_computed_side_by_side() -> None:
    """`num_threads` parts are on their way at the same time, each in batches of the size that the network is to get."""
    source = examples.matrix(4, 3)
    predictor = Predictor(source.pipeline, decoder_of(source.pipeline.target), Gathering(3, 3))
    with OptimizedBatchProcessor(10, 3, predictor=predictor) as processor:
        parts = list(processor.run(batches_of(source.raw.slice(0, 90), 30)))
    assert [part.positions[0] for part in parts] == [0, 30, 60]


def test_reading_stays_just_ahead_of_the_answers() -> None:
    """No more than 2 x num_threads batches are read ahead, and a reader that stops early leaves nothing running."""
    source = examples.matrix(4, 3)
    read = []

    def batches() -> Iterator[Batch]:
        for batch in batches_of(source.raw, 10):
            read.append(batch.first_position)
            yield batch

    with (
        reference_predictor(source.module(), source) as predictor,
        OptimizedBatchProcessor(10, 2, predictor=predictor) as processor,
    ):
        results = processor.score(batches())
        next(results)
        assert read == [0, 10, 20, 30]
        results.close()


def test_an_answer_that_is_not_finite_is_a_rejected_row() -> None:
    """A network that overflows on one row costs that row its answer, with the reason, and no other."""
    source = examples.matrix(4, 3)

    class Overflowing:
        def run(self, inputs: NamedArrays) -> dict[str, Array]:
            logits = np.zeros((len(next(iter(inputs.values()))), 3), dtype=np.float32)
            logits[1] = np.nan
            return {LOGITS: logits}

        def close(self) -> None:
            return None

    predictor = Predictor(source.pipeline, decoder_of(source.pipeline.target), Overflowing())
    with OptimizedBatchProcessor(1000, 1, predictor=predictor) as processor:
        table = pa.Table.from_batches(list(processor.score(batches_of(source.raw, 1000))))
    assert "must be finite" in table["rejected"][1].as_py()
    assert table["label"][1].as_py() is None
    assert table["rejected"].null_count == table.num_rows - 1
