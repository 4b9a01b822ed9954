"""The leased arrays of one batch, written again and again by gathering rows by index. `CPUDataProcessor` has a few."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np

from corelane.core.errors import MemoryBudgetError
from corelane.core.types import Array
from corelane.data.prepared import PreparedPart
from corelane.machine.memory import MemoryManager

TrainingBatch: TypeAlias = tuple[dict[str, Array], Array]
"""Inputs by name, [batch_size, ...] each, and the target [batch_size]."""

_TARGET = "\0target"  # beside the inputs' names, none of which holds a NUL


class Slot:
    """The leased arrays that one batch after another is gathered into."""

    def __init__(self, part: PreparedPart, batch_size: int, memory: MemoryManager) -> None:
        sources = {**part.inputs, _TARGET: part.target}
        self._memory = memory
        self._leased: list[Array] = []
        try:
            targets = {
                name: self._lease((batch_size, *source.shape[1:]), source.dtype) for name, source in sources.items()
            }
        except MemoryBudgetError:
            self._release()
            raise
        # plain arrays, not memmaps: every call on the subclass costs microseconds
        self._pairs = [(np.asarray(source), targets[name]) for name, source in sources.items()]
        target = targets.pop(_TARGET)
        self._whole: TrainingBatch = (targets, target)
        self._batch_size = batch_size

    def _lease(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        self._leased.append(self._memory.allocate_tensor(shape, dtype))
        return self._leased[-1]

    def _release(self) -> None:
        while self._leased:
            self._memory.release(self._leased.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def gather(self, indices: Array) -> TrainingBatch:
        """Copy the rows at `indices` in; fewer than a whole batch give views of the first rows."""
        num_rows = len(indices)
        if num_rows == self._batch_size:
            for source, target in self._pairs:
                source.take(indices, axis=0, out=target, mode="clip")  # checked before; "raise" would buffer
            return self._whole
        for source, target in self._pairs:
            source.take(indices, axis=0, out=target[:num_rows], mode="clip")
        inputs, target = self._whole
        return {name: values[:num_rows] for name, values in inputs.items()}, target[:num_rows]
