"""What training reads again and again, kept in memory (L1) where there is room: the training part's tensors, and the
validation part's batches.

It is chosen once, when training begins, so that the two do not push each other out each epoch: the batches first, then
the tensors. What was given up meanwhile, for memory that others need, is read from disk again; the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np

from corelane.core.types import Array
from corelane.data.prepared import PreparedData, PreparedPart
from corelane.data.processor import CPUDataProcessor
from corelane.data.readahead import is_mapped
from corelane.data.slot import TrainingBatch
from corelane.machine.memory import aligned_empty
from corelane.store.tiers.tier import Arrays

_TARGET = "\0target"  # beside the inputs' names, none of which holds a NUL


class Keeper(Protocol):
    """The tier in memory, or one that is off."""

    def can_keep(self, num_bytes: int) -> bool:
        """Whether so many bytes could be kept."""
        ...

    def get(self, key: str) -> Arrays | None:
        """What is kept under `key`."""
        ...

    def put(self, key: str, arrays: Arrays) -> bool:
        """Keep copies of `arrays`; whether they are kept."""
        ...


class KeptData:
    """The training and the validation part of `data` as training takes them, through `keeper`."""

    def __init__(self, data: PreparedData, keeper: Keeper) -> None:
        self._data = data
        self._keeper = keeper
        self._is_first_epoch = True
        batches, tensors = _bytes(data.validation), _bytes(data.train)
        is_on_disk = any(is_mapped(array) for array in data.train.inputs.values())  # else it is in memory already
        self._keeps_batches = is_on_disk and batches > 0 and keeper.can_keep(batches)
        self._keeps_tensors = is_on_disk and keeper.can_keep(tensors + (batches if self._keeps_batches else 0))

    def train(self) -> PreparedPart:
        """The training part for one epoch: aligned copies in memory, or as it lies on disk.

        The first epoch of a process reads from disk, a window at a time: its first step does not wait for a copy of
        everything, and a run of one epoch makes none.
        """
        part, is_first = self._data.train, self._is_first_epoch
        self._is_first_epoch = False
        if is_first or not self._keeps_tensors:
            return part
        key = f"tensors/{self._data.digest}"
        if (kept := self._keeper.get(key)) is None:
            self._keeper.put(key, {**part.inputs, _TARGET: part.target})
            kept = self._keeper.get(key)
        if kept is None:
            return part
        return replace(part, inputs={name: kept[name] for name in part.inputs}, target=kept[_TARGET])

    def validation(self, processor: CPUDataProcessor, batch_size: int) -> Iterator[TrainingBatch]:
        """The validation part in order, `batch_size` rows at a time, the last ones too.

        Valid as long as the batches of `processor.batches`. Whoever takes one may write to it: of what is kept it is a
        copy.
        """
        part, start = self._data.validation, 0
        while start < part.num_rows and (kept := self._kept_batch(batch_size, start)) is not None:
            yield {name: _copy(kept[name]) for name in part.inputs}, _copy(kept[_TARGET])
            start += batch_size
        if start >= part.num_rows:
            return
        for inputs, target in processor.batches(
            part, np.arange(part.num_rows), batch_size, start=start, drop_last=False
        ):
            if self._keeps_batches:
                self._keeper.put(self._key(batch_size, start), {**inputs, _TARGET: target})
                start += batch_size
            yield inputs, target

    def _kept_batch(self, batch_size: int, start: int) -> Arrays | None:
        return self._keeper.get(self._key(batch_size, start)) if self._keeps_batches else None

    def _key(self, batch_size: int, start: int) -> str:
        return f"batches/{self._data.digest}/{batch_size}/{start}"


def _copy(array: Array) -> Array:
    """`array` aligned like what the processor gathers: a module computes the same bits on it."""
    copy = aligned_empty(array.shape, array.dtype)
    np.copyto(copy, array)
    return copy


def _bytes(part: PreparedPart) -> int:
    return part.num_rows * part.row_bytes
