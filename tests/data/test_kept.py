"""What training reads again, kept in memory: the same bytes, within the bound, and from disk when it had to go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from corelane.core.types import Array
from corelane.data.kept import KeptData
from corelane.data.prepared import PreparedData, PreparedPart
from corelane.data.processor import CPUDataProcessor
from corelane.data.readahead import is_mapped
from corelane.machine.memory import MemoryManager
from corelane.store.tiers.memory import MemoryTier
from corelane.store.tiers.tier import NoTier
from tests.train.examples import classification, on_disk

BATCH_ROWS = 16


def _data(tmp_path: Path) -> PreparedData:
    """280 training and 60 validation rows of 32 + 8 bytes, on disk."""
    return on_disk(classification(), tmp_path / "arrays")


@pytest.fixture
def tier() -> Iterator[MemoryTier]:
    """A tier that has room for everything."""
    made = MemoryTier(MemoryManager(limit_bytes=100 << 20))
    yield made
    made.close()


@pytest.fixture
def processor() -> Iterator[CPUDataProcessor]:
    """A processor."""
    with CPUDataProcessor(0) as made:
        yield made


def _validation(kept: KeptData, processor: CPUDataProcessor) -> list[bytes]:
    batches = []
    for inputs, target in kept.validation(processor, BATCH_ROWS):
        batches.append(b"".join(array.tobytes() for array in (*inputs.values(), target)))
    return batches


def _bytes(part: PreparedPart) -> list[bytes]:
    return [array.tobytes() for array in (*part.inputs.values(), part.target)]


def test_tensors_come_from_memory_and_are_the_same(tmp_path: Path, tier: MemoryTier) -> None:
    """The training part is copied once, for the second epoch, aligned; later epochs have the same copy."""
    data = _data(tmp_path)
    kept = KeptData(data, tier)
    assert kept.train() is data.train, "nothing is copied before the first step"
    first, second = kept.train(), kept.train()
    assert _bytes(first) == _bytes(data.train)
    arrays: list[Array] = [*first.inputs.values(), first.target]
    assert not any(is_mapped(array) for array in arrays)
    assert all(array.ctypes.data % 64 == 0 for array in arrays)
    assert second.target is first.target
    assert np.array_equal(first.positions, data.train.positions)


def test_batches_are_gathered_once(tmp_path: Path, tier: MemoryTier, processor: CPUDataProcessor) -> None:
    """The second evaluation takes every batch, the short last one too, from memory."""
    data = _data(tmp_path)
    kept = KeptData(data, tier)
    first = _validation(kept, processor)
    misses = tier.meter.counts.misses
    assert _validation(kept, processor) == first
    assert tier.meter.counts.misses == misses
    assert len(first) == 4
    assert first == _validation(KeptData(data, NoTier()), processor)


def test_whoever_takes_a_batch_may_write_to_it(tmp_path: Path, tier: MemoryTier, processor: CPUDataProcessor) -> None:
    """What is kept, and what the next evaluation takes, stays as it is; a batch from memory is aligned like any."""
    kept = KeptData(_data(tmp_path), tier)
    expected = _validation(kept, processor)
    for _ in range(2):
        for inputs, target in kept.validation(processor, BATCH_ROWS):
            for array in (*inputs.values(), target):
                assert array.ctypes.data % 64 == 0
                array[...] = 0
    assert _validation(kept, processor) == expected


def test_what_was_given_up_is_read_again(tmp_path: Path, tier: MemoryTier, processor: CPUDataProcessor) -> None:
    """Wherever an evaluation finds a batch gone, it goes on from disk with the same batches."""
    data = _data(tmp_path)
    kept = KeptData(data, tier)
    expected, train = _validation(kept, processor), _bytes(data.train)
    for start in range(0, 64, BATCH_ROWS):
        tier.remove(f"batches/{data.digest}/{BATCH_ROWS}/{start}")
        assert _validation(kept, processor) == expected
    tier.close()
    assert _validation(kept, processor) == expected
    assert _bytes(kept.train()) == train


@pytest.mark.parametrize(
    ("limit_bytes", "keeps_tensors", "keeps_batches"), [(20_000, True, True), (3000, False, True), (1000, False, False)]
)
def test_what_does_not_fit_stays_on_disk(
    tmp_path: Path, processor: CPUDataProcessor, limit_bytes: int, keeps_tensors: bool, keeps_batches: bool
) -> None:
    """The batches come first, the tensors where they fit beside them; what does not fit pushes nothing out."""
    tier = MemoryTier(MemoryManager(limit_bytes=100 << 20), limit_bytes)
    data = _data(tmp_path)
    kept = KeptData(data, tier)
    kept.train()
    for _ in range(3):
        assert is_mapped(kept.train().target) != keeps_tensors
        _validation(kept, processor)
    assert (tier.usage.num_entries > int(keeps_tensors)) == keeps_batches
    assert tier.meter.counts.evictions == 0
    tier.close()


def test_what_lies_in_memory_already_is_not_copied(tier: MemoryTier, processor: CPUDataProcessor) -> None:
    """Data that a full disk left in memory is not kept twice."""
    data = classification()
    kept = KeptData(data, tier)
    assert kept.train() is data.train
    assert len(_validation(kept, processor)) == 4
    assert tier.usage.num_entries == 0
