"""`CPUDataProcessor`: rows through the pipeline on threads, and prepared rows gathered by index into aligned batches.

Loader processes are not used: NumPy releases the interpreter lock while it copies, so threads are enough, and nothing
is pickled. Called by `prepare` (transforming), the trainer (gathering) and offline scoring.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from itertools import cycle
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np
import pyarrow as pa

from corelane.core.errors import ConfigError, DataError, MemoryBudgetError
from corelane.core.types import Array
from corelane.data.pipeline import Pipeline
from corelane.data.prepared import PreparedPart
from corelane.machine.memory import MemoryManager

TrainingBatch: TypeAlias = tuple[dict[str, Array], Array]
"""Inputs by name, [batch_size, ...] each, and the target [batch_size]."""

ALIGNMENT = 64  # a cache line, and the widest vector register (AVX-512)

_END = object()  # behind the last item
_TARGET = "\0target"  # beside the inputs' names, none of which holds a NUL

_THREADED_BYTES = 1 << 20
"""Batches from this size on are gathered by a thread while the one before computes. Below it the thread switches cost
more than they hide: on two cores both ways took as long at about 0.75 MiB; at 0.2 MiB inline was twice as fast."""


_FEWEST_SLOTS = 2  # one that is read and one that is written


class CPUDataProcessor:
    """Owns the worker threads that feed a network and nothing else. A context manager; `close` is idempotent.

    `num_workers` threads transform (0: none, the caller's own does); `prefetch_factor` is how many further batches may
    be taken before a batch's arrays are used again. Those arrays are leased from `memory`, fewer where it is short.
    Methods may be called from several threads.
    """

    def __init__(
        self,
        num_workers: int = 4,
        prefetch_factor: int = 2,
        *,
        pipeline: Pipeline | None = None,
        memory: MemoryManager | None = None,
    ) -> None:
        if num_workers < 0 or prefetch_factor < 1:
            raise ConfigError(
                "num_workers must be at least 0 and prefetch_factor at least 1, "
                f"got {num_workers} and {prefetch_factor}; give both as counts"
            )
        self.num_workers = num_workers
        self.prefetch_factor = prefetch_factor
        self._pipeline = pipeline
        self._memory = memory or MemoryManager()
        self._threads = ThreadPoolExecutor(max(1, num_workers), thread_name_prefix="corelane-data")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="corelane-read")

    def process_batch(self, batch: pa.RecordBatch) -> dict[str, Array]:
        """Checked rows [n] through the pipeline: 64-byte aligned C-contiguous arrays [n, ...] by name.

        Raises `ConfigError` when the processor was made without a pipeline.
        """
        if self._pipeline is None:
            raise ConfigError("process_batch must have a fitted pipeline, got none; construct with pipeline=...")
        return {name: align(values) for name, values in self._pipeline.transform(batch).items()}

    def process(self, batches: Iterable[pa.RecordBatch]) -> Iterator[dict[str, Array]]:
        """`process_batch` over many, several at a time, in order; at most num_workers + prefetch_factor are ahead."""
        return self.map(self.process_batch, batches)

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """`function` over `items` on the worker threads, results in order, a bounded number of items ahead."""
        if self.num_workers == 0:
            yield from map(function, items)
            return
        waiting: deque[Future[Any]] = deque()
        try:
            for item in items:
                waiting.append(self._threads.submit(function, item))
                if len(waiting) >= self.num_workers + self.prefetch_factor:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def ahead(self, items: Iterable[Any]) -> Iterator[Any]:
        """`items`, the next one read by a thread while one is worked on. Without workers, none is read ahead."""
        if self.num_workers == 0:
            yield from items
            return
        iterator = iter(items)
        coming = self._reader.submit(next, iterator, _END)
        try:
            while (item := coming.result()) is not _END:
                coming = self._reader.submit(next, iterator, _END)
                yield item
        finally:
            wait([coming])  # a generator cannot be closed while it runs
            if isinstance(iterator, Generator):
                iterator.close()

    def batches(
        self, part: PreparedPart, order: Array, batch_size: int, *, start: int = 0, drop_last: bool = True
    ) -> Iterator[TrainingBatch]:
        """Rows of `part` in the order of the indices `order` [m], `batch_size` at a time, as aligned copies.

        `start` is how many entries of `order` were taken before: the position in the epoch. Without `drop_last` a last,
        smaller batch follows. The arrays of a batch are valid until `prefetch_factor` more batches were taken; they are
        then written again. Raises `DataError` when an index lies outside `part`.
        """
        if batch_size < 1 or start < 0:
            raise ConfigError(f"batch_size must be at least 1 and start at least 0, got {batch_size} and {start}")
        if order.size and not (int(order.min()) >= 0 and int(order.max()) < part.num_rows):
            raise DataError(f"order must hold indices below {part.num_rows}, got {order.min()} to {order.max()}")
        end = len(order) - (len(order) - start) % batch_size if drop_last else len(order)
        chosen = (order[first : first + batch_size] for first in range(start, end, batch_size))
        if batch_size * _row_bytes(part) < _THREADED_BYTES:
            return self._gather_inline(part, batch_size, chosen)
        return self._gather_ahead(part, batch_size, chosen)

    @contextmanager
    def _ring(self, part: PreparedPart, batch_size: int) -> Iterator[list[_Slot]]:
        """Slots for `prefetch_factor` batches ahead, leased while the context lasts; fewer when memory is short."""
        with ExitStack() as leases:
            ring: list[_Slot] = []
            while len(ring) <= self.prefetch_factor:
                try:
                    ring.append(leases.enter_context(_Slot(part, batch_size, self._memory)))
                except MemoryBudgetError:
                    if len(ring) < _FEWEST_SLOTS:
                        raise
                    break
            yield ring

    def _gather_inline(self, part: PreparedPart, batch_size: int, chosen: Iterable[Array]) -> Iterator[TrainingBatch]:
        with self._ring(part, batch_size) as ring:
            for slot, indices in zip(cycle(ring), chosen, strict=False):
                yield slot.gather(indices)

    def _gather_ahead(self, part: PreparedPart, batch_size: int, chosen: Iterable[Array]) -> Iterator[TrainingBatch]:
        """One batch ahead: it is written into the slot whose batch has just ceased to be valid."""
        ahead: Future[TrainingBatch] | None = None
        with self._ring(part, batch_size) as ring:
            try:
                for slot, indices in zip(cycle(ring), chosen, strict=False):
                    ready, ahead = ahead, self._threads.submit(slot.gather, indices)
                    if ready is not None:
                        yield ready.result()
                if ahead is not None:
                    yield ahead.result()
            finally:
                if ahead is not None:
                    wait([ahead])  # nothing writes once the iterator is closed

    def close(self) -> None:
        """Wait for running work and end the threads."""
        self._threads.shutdown(cancel_futures=True)
        self._reader.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An uninitialised C-contiguous array whose first byte lies at a multiple of `ALIGNMENT`."""
    num_bytes = math.prod(shape) * dtype.itemsize
    raw = np.empty(num_bytes + ALIGNMENT, dtype=np.uint8)
    offset = -raw.ctypes.data % ALIGNMENT
    return raw[offset : offset + num_bytes].view(dtype).reshape(shape)


def align(values: Array) -> Array:
    """`values` itself when it is C-contiguous and aligned, else a copy that is."""
    if values.flags.c_contiguous and values.ctypes.data % ALIGNMENT == 0:
        return values
    copy = aligned_empty(values.shape, values.dtype)
    copy[...] = values
    return copy


# --- gathering --------------------------------------------------------------------------------------------------------


def _row_bytes(part: PreparedPart) -> int:
    return sum(math.prod(array.shape[1:]) * array.itemsize for array in (*part.inputs.values(), part.target))


class _Slot:
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
