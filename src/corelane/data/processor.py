"""`CPUDataProcessor`: rows through the pipeline on threads, and prepared rows gathered by index into aligned batches.

Loader processes are not used: NumPy releases the interpreter lock while it copies, so threads are enough, and nothing
is pickled. Called by `prepare` (transforming), the trainer (gathering) and offline scoring.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from itertools import cycle
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np
import pyarrow as pa

from corelane.core.errors import ConfigError, DataError, MemoryBudgetError
from corelane.core.types import Array, IntArray
from corelane.data.order import EpochOrder
from corelane.data.pipeline import Pipeline
from corelane.data.prepared import PreparedPart
from corelane.data.readahead import Readahead
from corelane.data.slot import Slot, TrainingBatch
from corelane.machine.cpu import Machine
from corelane.machine.memory import ALIGNMENT, MemoryManager, aligned_empty

_END = object()  # behind the last item
Order: TypeAlias = IntArray | EpochOrder
"""Indices of a part's rows [m]: given, or an epoch's."""

_THREADED_BYTES = 1 << 20
"""Batches from this size on are gathered by a thread while the one before computes. Below it the thread switches cost
more than they hide: on two cores both ways took as long at about 0.75 MiB; at 0.2 MiB inline was twice as fast."""

_WINDOWS_IN_USE = 2  # one that is gathered from and the next one, which is read meanwhile
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
            _settle(coming)  # a generator cannot be closed while it runs
            if isinstance(iterator, Generator):
                iterator.close()

    def batches(
        self, part: PreparedPart, order: Order, batch_size: int, *, start: int = 0, drop_last: bool = True
    ) -> Iterator[TrainingBatch]:
        """Rows of `part` in the order `order` of an epoch, or of the indices [m], `batch_size` at a time, as aligned
        copies.

        `start` is how many rows of `order` were taken before: the position in the epoch. Without `drop_last` a last,
        smaller batch follows. The arrays of a batch are valid until `prefetch_factor` more batches were taken; they are
        then written again. Rows on disk are read a window of the order ahead. Raises `DataError` when an index lies
        outside `part`.
        """
        batches = self.indexed_batches(part, order, batch_size, start=start, drop_last=drop_last)
        return (batch for _, batch in batches)

    def indexed_batches(
        self, part: PreparedPart, order: Order, batch_size: int, *, start: int = 0, drop_last: bool = True
    ) -> Iterator[tuple[IntArray, TrainingBatch]]:
        """`batches`, each with the indices of its rows in `part` [batch_size]."""
        if batch_size < 1 or start < 0:
            raise ConfigError(f"batch_size must be at least 1 and start at least 0, got {batch_size} and {start}")
        _check_within(order, part.num_rows)
        chosen = _cut(self._windows(part, order, start), batch_size, drop_last=drop_last)
        if batch_size * part.row_bytes < _THREADED_BYTES:
            return self._gather_inline(part, batch_size, chosen)
        return self._gather_ahead(part, batch_size, chosen)

    def _windows(self, part: PreparedPart, order: Order, start: int) -> Iterator[IntArray]:
        """The indices from `start` on, a window at a time; the rows of the next window are read meanwhile."""
        if not isinstance(order, EpochOrder):
            return iter((order[start:],))
        if order.num_windows == 1:
            return order.rows(start)
        readahead = Readahead([*part.inputs.values(), part.target], Machine.detect().memory_bytes)

        def read() -> Iterator[IntArray]:
            first, begin = order.window_at(start)
            readahead.ask(order.ranges(first))
            for index in range(first, order.num_windows):
                if index + 1 < order.num_windows:
                    readahead.ask(order.ranges(index + 1))
                if index >= first + _WINDOWS_IN_USE:
                    readahead.leave(order.ranges(index - _WINDOWS_IN_USE))
                readahead.wait(order.ranges(index))
                yield order.window(index)[start - begin if index == first else 0 :]

        return self.ahead(read())

    @contextmanager
    def _ring(self, part: PreparedPart, batch_size: int) -> Iterator[list[Slot]]:
        """Slots for `prefetch_factor` batches ahead, leased while the context lasts; fewer when memory is short."""
        with ExitStack() as leases:
            ring: list[Slot] = []
            while len(ring) <= self.prefetch_factor:
                try:
                    ring.append(leases.enter_context(Slot(part, batch_size, self._memory)))
                except MemoryBudgetError:
                    if len(ring) < _FEWEST_SLOTS:
                        raise
                    break
            yield ring

    def _gather_inline(
        self, part: PreparedPart, batch_size: int, chosen: Generator[IntArray]
    ) -> Iterator[tuple[IntArray, TrainingBatch]]:
        with closing(chosen), self._ring(part, batch_size) as ring:
            for slot, indices in zip(cycle(ring), chosen, strict=False):
                yield indices, slot.gather(indices)

    def _gather_ahead(
        self, part: PreparedPart, batch_size: int, chosen: Generator[IntArray]
    ) -> Iterator[tuple[IntArray, TrainingBatch]]:
        """One batch ahead: it is written into the slot whose batch has just ceased to be valid."""
        ahead: tuple[IntArray, Future[TrainingBatch]] | None = None
        with closing(chosen), self._ring(part, batch_size) as ring:
            try:
                for slot, indices in zip(cycle(ring), chosen, strict=False):
                    ready, ahead = ahead, (indices, self._threads.submit(slot.gather, indices))
                    if ready is not None:
                        yield ready[0], ready[1].result()
                if ahead is not None:
                    yield ahead[0], ahead[1].result()
            finally:
                if ahead is not None:
                    _settle(ahead[1])  # nothing writes once the iterator is closed

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


def _settle(future: Future[Any]) -> None:
    """Return when `future` does not run and never will. One that a closed pool has dropped never ends."""
    if not future.cancel():
        wait([future])


def align(values: Array) -> Array:
    """`values` itself when it is C-contiguous and aligned, else a copy that is."""
    if values.flags.c_contiguous and values.ctypes.data % ALIGNMENT == 0:
        return values
    copy = aligned_empty(values.shape, values.dtype)
    copy[...] = values
    return copy


# --- indices ----------------------------------------------------------------------------------------------------------


def _check_within(order: Order, num_rows: int) -> None:
    if isinstance(order, EpochOrder):
        lowest, highest = 0, len(order) - 1
    elif order.size:
        lowest, highest = int(order.min()), int(order.max())
    else:
        return
    if lowest < 0 or highest >= num_rows:
        raise DataError(f"order must hold indices below {num_rows}, got {lowest} to {highest}")


def _cut(pieces: Iterator[IntArray], batch_size: int, *, drop_last: bool) -> Generator[IntArray]:
    """Pieces of indices as arrays of `batch_size`, and the rest unless it is dropped."""
    rest: IntArray = np.empty(0, dtype=np.int64)
    try:
        for piece in pieces:
            joined = np.concatenate([rest, piece]) if len(rest) else piece
            whole = len(joined) - len(joined) % batch_size
            for first in range(0, whole, batch_size):
                yield joined[first : first + batch_size]
            rest = joined[whole:]
        if len(rest) and not drop_last:
            yield rest
    finally:
        if isinstance(pieces, Generator):
            pieces.close()
