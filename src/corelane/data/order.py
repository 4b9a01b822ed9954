"""The order of an epoch: block-shuffled, a pure function of seed, epoch, number of rows and bytes of a row.

Nothing is drawn from a generator with a state, so a place in the data is three integers and resuming is instant. Rows
lie in blocks of neighbours; the blocks are put in random order, divided into windows, and all rows of a window are
shuffled. Data on disk are thus read a block at a time and a window is all that must be in memory, while a batch still
mixes rows of hundreds of places. Data of one window, up to 64 MiB, are permuted as a whole. The mixing function is the
finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014). It is
written here, and not taken from a library's generator, because a library may change its streams between releases.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from corelane.core.types import IntArray

BLOCK_BYTES = 128 << 10  # a window of them asked for at once is read as fast as in sequence; of 32 KiB, at half of it
WINDOW_BLOCKS = 512  # 64 MiB; of data sorted by ten classes each has 10 % of a window's rows, give or take 1.3 %
MAX_BLOCK_ROWS = 1 << 11  # narrow rows: a window is at most a million, whose shuffling takes 30 ms and 24 MB

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


class EpochOrder:
    """The order in which one epoch visits rows, window by window; frozen. Eight bytes a block are all it holds."""

    def __init__(self, seed: int, epoch: int, num_rows: int, row_bytes: int) -> None:
        self.num_rows = num_rows
        self._key = (seed, epoch)
        self._block_rows = max(1, min(MAX_BLOCK_ROWS, BLOCK_BYTES // max(row_bytes, 1)))
        num_blocks = -(-num_rows // self._block_rows)
        self._blocks: IntArray = np.argsort(mix(np.arange(num_blocks), "blocks", seed, epoch))
        self.num_windows = max(1, -(-num_blocks // WINDOW_BLOCKS))
        # Windows of equal size: a short last one would hold rows of a few places only.
        self._ends: IntArray = np.arange(1, self.num_windows + 1) * num_blocks // self.num_windows
        lengths = np.minimum(self._block_rows, num_rows - self._blocks * self._block_rows)
        self._row_ends: IntArray = np.cumsum(lengths)[self._ends - 1] if num_blocks else np.zeros(1, dtype=np.int64)

    def __len__(self) -> int:
        return self.num_rows

    def window(self, index: int) -> IntArray:
        """The rows of a window in their order, int64 [n]."""
        starts = self._window_blocks(index) * self._block_rows
        rows: IntArray = (starts[:, None] + np.arange(self._block_rows)).reshape(-1)
        if len(starts) and int(starts.max()) + self._block_rows > self.num_rows:
            rows = rows[rows < self.num_rows]
        return rows[np.argsort(mix(rows, "order", *self._key))]  # keys never tie, see `mix`: any sort gives this order

    def ranges(self, index: int) -> list[tuple[int, int]]:
        """Where a window's rows lie: ascending ranges (first row, row behind the last), neighbours joined."""
        blocks = np.sort(self._window_blocks(index))
        is_first = np.diff(blocks, prepend=-2) > 1
        is_last = np.append(is_first[1:], True)[: len(blocks)]
        starts = (blocks[is_first] * self._block_rows).tolist()
        stops = np.minimum((blocks[is_last] + 1) * self._block_rows, self.num_rows).tolist()
        return list(zip(starts, stops, strict=True))

    def window_at(self, position: int) -> tuple[int, int]:
        """The window that holds the row visited at `position`, and the position of that window's first row."""
        index = int(np.searchsorted(self._row_ends, position, side="right"))
        return index, 0 if index == 0 else int(self._row_ends[index - 1])

    def rows(self, start: int = 0) -> Iterator[IntArray]:
        """The rows from position `start` on, a window at a time."""
        first, begin = self.window_at(start)
        for index in range(first, self.num_windows):
            yield self.window(index)[start - begin if index == first else 0 :]

    def _window_blocks(self, index: int) -> IntArray:
        return self._blocks[0 if index == 0 else self._ends[index - 1] : self._ends[index]]


def epoch_order(seed: int, epoch: int, num_rows: int, row_bytes: int) -> EpochOrder:
    """The order in which epoch `epoch` visits `num_rows` rows of `row_bytes` bytes each."""
    return EpochOrder(seed, epoch, num_rows, row_bytes)


def mix(positions: IntArray, purpose: str, *numbers: int) -> NDArray[np.uint64]:
    """A well mixed number for each of `positions` [n], another for every purpose and numbers: uint64 [n].

    For one purpose and one choice of numbers the mapping is one to one, so different positions never tie.
    """
    text = ":".join([purpose, *map(str, numbers)])
    offset = np.uint64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))
    mixed = positions.astype(np.uint64)
    mixed *= _GOLDEN  # wraps, as is meant
    mixed += offset
    mixed ^= mixed >> np.uint64(30)
    mixed *= _FIRST
    mixed ^= mixed >> np.uint64(27)
    mixed *= _SECOND
    mixed ^= mixed >> np.uint64(31)
    return mixed
