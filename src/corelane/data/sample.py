"""A bounded sample of rows that stream by: the same rows whatever the batches, and whichever source they came from."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from corelane.core.types import IntArray
from corelane.data.order import mix
from corelane.data.sources.plain import plain_rows, plain_schema


class RowSample:
    """Owns up to `size` of the rows it is shown: those whose positions mix to the smallest numbers. All, if fewer."""

    def __init__(self, size: int, seed: int) -> None:
        self._pool: list[pa.RecordBatch] = []
        self._positions: IntArray = np.empty(0, dtype=np.int64)
        self._size = size
        self._seed = seed
        self._threshold = np.uint64(2**64 - 1)

    def add(self, rows: pa.RecordBatch, positions: IntArray, shown: IntArray | None = None) -> None:
        """Show those of `rows` [n], which lie at `positions` [n] of their source, with the indices `shown` (all)."""
        shown = np.arange(len(positions)) if shown is None else shown
        chosen = shown[self._keys(positions[shown]) <= self._threshold]
        if not len(chosen):
            return
        taken = rows.take(pa.array(chosen))
        self._pool.append(plain_rows(taken, plain_schema(taken.schema)))
        self._positions = np.concatenate([self._positions, positions[chosen]])
        if len(self._positions) > 2 * self._size:
            self._prune()

    def table(self, schema: pa.Schema) -> pa.Table:
        """The sample, by position, dictionaries unfolded; `schema` is that of the rows, for when there were none."""
        self._prune()
        return pa.Table.from_batches(self._pool, plain_schema(schema))

    def _prune(self) -> None:
        if not self._pool:
            return
        keys = self._keys(self._positions)
        kept = np.argsort(keys)[: self._size]
        self._threshold = keys[kept].max() if len(kept) == self._size else self._threshold
        kept = kept[np.argsort(self._positions[kept])]
        self._pool = pa.Table.from_batches(self._pool).take(pa.array(kept)).combine_chunks().to_batches()
        self._positions = self._positions[kept]

    def _keys(self, positions: IntArray) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        return mix(positions, "sample", self._seed)
