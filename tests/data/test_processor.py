"""The processor: aligned arrays through the pipeline, rows gathered by index, and how long a batch stays valid."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from corelane.core.errors import ConfigError, DataError
from corelane.core.types import Array
from corelane.data.order import epoch_order
from corelane.data.prepared import PreparedPart
from corelane.data.processor import ALIGNMENT, CPUDataProcessor, align, aligned_empty
from corelane.data.schema import Column
from tests.data.examples import fitted

SMALL, LARGE = 8, 40_000  # floats per row: a batch of 10 is gathered inline, or (1.6 MB) ahead by a thread


@pytest.fixture
def processor() -> Iterator[CPUDataProcessor]:
    """Two threads, two further batches."""
    with CPUDataProcessor(2, 2) as processor:
        yield processor


def _part(num_rows: int, width: int = SMALL) -> PreparedPart:
    features = np.repeat(np.arange(num_rows, dtype=np.float32)[:, None], width, axis=1)
    return PreparedPart({"features": features}, np.arange(num_rows) * 10, np.arange(num_rows))


def _taken(batches: Iterator[tuple[dict[str, Array], Array]]) -> list[tuple[list[float], list[int]]]:
    return [(inputs["features"][:, -1].tolist(), target.tolist()) for inputs, target in batches]


@pytest.mark.parametrize("width", [SMALL, LARGE])
def test_batches_follow_the_order(processor: CPUDataProcessor, width: int) -> None:
    """Inputs and targets are those of the indices; what does not fill a batch is dropped, or comes last."""
    order = np.random.default_rng(0).permutation(47)
    whole = [
        (order[first : first + 10].tolist(), (order[first : first + 10] * 10).tolist()) for first in range(0, 47, 10)
    ]
    assert _taken(processor.batches(_part(47, width), order, 10)) == whole[:4]
    assert _taken(processor.batches(_part(47, width), order, 10, drop_last=False)) == whole


@pytest.mark.parametrize("width", [SMALL, LARGE])
@pytest.mark.parametrize("start", [0, 10, 30, 40])
def test_starting_in_the_middle_continues_the_epoch(processor: CPUDataProcessor, width: int, start: int) -> None:
    """From position `start` on come exactly the batches that an uninterrupted epoch would have given."""
    order = np.random.default_rng(0).permutation(47)
    whole = _taken(processor.batches(_part(47, width), order, 10, drop_last=False))
    assert _taken(processor.batches(_part(47, width), order, 10, start=start, drop_last=False)) == whole[start // 10 :]
    assert _taken(processor.batches(_part(47, width), order, 10, start=47)) == []


@pytest.mark.parametrize("width", [SMALL, LARGE])
def test_a_batch_stays_valid_until_prefetch_factor_more_were_taken(processor: CPUDataProcessor, width: int) -> None:
    """The arrays of a batch are untouched while the next one is computed with, and memory stays bounded."""
    batches = processor.batches(_part(100, width), np.arange(100), 10)
    taken = []
    addresses = set()
    for index, (inputs, _) in enumerate(batches):
        taken.append(inputs["features"])
        addresses.add(inputs["features"].ctypes.data)
        for back in range(min(index + 1, processor.prefetch_factor)):
            assert taken[index - back][0, 0] == (index - back) * 10
    assert len(addresses) == processor.prefetch_factor + 1


@pytest.mark.parametrize("width", [SMALL, LARGE])
def test_arrays_are_aligned_and_contiguous(processor: CPUDataProcessor, width: int) -> None:
    """Whatever the shape, every array of a batch begins at a multiple of 64 bytes."""
    part = _part(30, width)
    for inputs, target in processor.batches(part, np.arange(30), 7, drop_last=False):
        for array in (*inputs.values(), target):
            assert array.flags.c_contiguous
            assert array.ctypes.data % ALIGNMENT == 0


def test_an_abandoned_iterator_leaves_no_gather_running(processor: CPUDataProcessor) -> None:
    """Closing the iterator waits for the batch that is being gathered, so nothing writes afterwards."""
    batches = processor.batches(_part(100, LARGE), np.arange(100), 10)
    arrays = [next(batches)[0]["features"] for _ in range(processor.prefetch_factor + 1)]
    batches.close()  # type: ignore[attr-defined]
    for array in arrays:
        array[...] = -1
    processor.close()
    assert all((array == -1).all() for array in arrays)
    assert list(batches) == []


def test_indices_outside_the_part_are_refused(processor: CPUDataProcessor) -> None:
    """A wrong order is an error at once, not wrong rows."""
    for order in ([0, 47], [-1, 3]):
        with pytest.raises(DataError, match="indices below 47"):
            processor.batches(_part(47), np.array(order), 1)
    with pytest.raises(ConfigError, match="batch_size"):
        processor.batches(_part(47), np.arange(47), 0)


def test_process_batch_is_the_pipeline_aligned() -> None:
    """`process_batch` gives what the pipeline gives, in aligned arrays; `process` does so for many, in order."""
    columns = {"a": [1.0, 2.0, 3.0, None], "b": ["x", "y", "x", "z"]}
    pipeline = fitted([Column("a", "numeric"), Column("b", "categorical")], columns)
    rows = pa.RecordBatch.from_pydict({**columns, "label": ["no"] * 4})
    expected = pipeline.transform(rows)["features"]
    for num_workers in (0, 3):
        with CPUDataProcessor(num_workers, pipeline=pipeline) as processor:
            result = processor.process_batch(rows)["features"]
            assert np.array_equal(result, expected)
            assert result.ctypes.data % ALIGNMENT == 0
            slices = [rows.slice(index % 4, 1) for index in range(50)]
            got = np.concatenate([arrays["features"] for arrays in processor.process(slices)])
            assert np.array_equal(got, expected[np.arange(50) % 4])


def test_process_batch_without_a_pipeline_is_refused(processor: CPUDataProcessor) -> None:
    """There is no silent identity pipeline."""
    with pytest.raises(ConfigError, match="fitted pipeline"):
        processor.process_batch(pa.RecordBatch.from_pydict({"a": [1]}))


def test_map_reads_a_bounded_number_ahead(processor: CPUDataProcessor) -> None:
    """However slow the consumer, no more than num_workers + prefetch_factor items are taken ahead of it."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    for index, item in enumerate(processor.map(lambda item: item, items())):
        assert item == index
        assert len(taken) <= index + processor.num_workers + processor.prefetch_factor


def test_an_error_in_a_worker_reaches_the_caller(processor: CPUDataProcessor) -> None:
    """A failing item raises its own error where its result would have come."""

    def fail_at_three(item: int) -> int:
        if item == 3:
            raise DataError("three")
        return item

    results = processor.map(fail_at_three, range(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="three"):
        next(results)


def test_close_ends_the_threads_and_may_be_called_twice() -> None:
    """After `close` no thread of the processor is left."""
    processor = CPUDataProcessor(2)
    assert list(processor.map(str, range(5))) == list("01234")
    processor.close()
    processor.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("corelane-data")]


@pytest.mark.parametrize(("num_workers", "prefetch_factor"), [(-1, 2), (4, 0)])
def test_counts_are_checked(num_workers: int, prefetch_factor: int) -> None:
    """Counts that make no sense are refused at construction."""
    with pytest.raises(ConfigError, match="num_workers"):
        CPUDataProcessor(num_workers, prefetch_factor)


def test_defaults_are_those_of_the_specification() -> None:
    """Four workers, two batches ahead."""
    with CPUDataProcessor() as processor:
        assert (processor.num_workers, processor.prefetch_factor) == (4, 2)


def test_align_copies_only_what_needs_it() -> None:
    """An aligned array is returned as it is; a shifted or strided one becomes an equal, aligned copy."""
    aligned = aligned_empty((3, 5), np.dtype(np.float32))
    aligned[...] = 1
    assert align(aligned) is aligned
    shifted = aligned.reshape(-1)[1:].reshape(2, 7)
    for other in (shifted, aligned.T):
        copy = align(other)
        assert copy.ctypes.data % ALIGNMENT == 0
        assert np.array_equal(copy, other)


def test_a_small_gather_is_fast(processor: CPUDataProcessor) -> None:
    """64 rows of 784 float32 take less than 30 us (measured 15); the best of many, with a margin of five for a busy
    machine.
    """
    part = PreparedPart({"features": np.ones((20_000, 784), np.float32)}, np.zeros(20_000, np.int64), np.arange(20_000))
    times = []
    for epoch in range(3):
        order = np.random.default_rng(epoch).permutation(20_000)
        start = time.perf_counter()
        num_batches = sum(1 for _ in processor.batches(part, order, 64))
        times.append((time.perf_counter() - start) / num_batches)
    assert min(times) < 150e-6


@pytest.mark.parametrize("num_workers", [0, 2])
def test_items_read_ahead_come_in_order_and_their_source_is_closed(num_workers: int) -> None:
    """Each item comes once, in order; the generator behind them is closed at the end, on a break and on an error."""
    closed = []

    def items(num_good: int) -> Iterator[int]:
        try:
            yield from range(num_good)
            raise DataError("damaged")
        finally:
            closed.append(num_good)

    with CPUDataProcessor(num_workers) as processor:
        ahead = processor.ahead(items(5))
        assert [next(ahead) for _ in range(3)] == [0, 1, 2]
        ahead.close()  # type: ignore[attr-defined]
        assert closed == [5]
        with pytest.raises(DataError, match="damaged"):
            list(processor.ahead(items(3)))
        assert closed == [5, 3]
        assert list(processor.ahead([])) == []


def test_an_iterator_that_outlives_its_processor_can_be_closed() -> None:
    """An error's traceback may keep it alive until later; nothing waits for what the ended threads never began."""
    processor = CPUDataProcessor(1)
    release = threading.Event()

    def blocking() -> Iterator[int]:
        yield 0
        release.wait()

    waiting = processor.ahead(iter([0, 1, 2]))
    next(waiting)
    busy = processor.ahead(blocking())
    next(busy)
    next(waiting)  # whose next item now stands behind the blocked one
    closer = threading.Thread(target=processor.close)
    closer.start()
    while not processor._reader._shutdown:
        time.sleep(0.001)
    release.set()
    closer.join()
    for iterator in (waiting, busy):
        iterator.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_of_several_windows_is_gathered_as_its_order_says(tmp_path: Path, num_workers: int) -> None:
    """Rows on disk come in the epoch's order, across windows, with their indices, from any position on."""
    values = np.arange(3000, dtype=np.float32)[:, None] + np.zeros(12_000, np.float32)  # 144 MB: three windows
    np.save(tmp_path / "x.npy", values)
    part = PreparedPart(
        {"features": np.asarray(np.load(tmp_path / "x.npy", mmap_mode="r"))}, np.arange(3000), np.arange(3000)
    )
    order = epoch_order(7, 3, part.num_rows, part.row_bytes)
    assert order.num_windows == 3
    expected = np.concatenate(list(order.rows()))
    with CPUDataProcessor(num_workers) as processor:
        for start in (0, 1307):
            taken = []
            for rows, (inputs, target) in processor.indexed_batches(part, order, 77, start=start, drop_last=False):
                assert np.array_equal(rows, target)
                assert np.array_equal(inputs["features"][:, 5], rows)
                taken.append(rows)
            assert np.array_equal(np.concatenate(taken), expected[start:])
        first = processor.batches(part, order, 77)
        next(first)
        first.close()  # type: ignore[attr-defined]
