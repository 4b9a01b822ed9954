"""Which keys were seen before: a set of 128-bit keys that only grows, asked and filled a batch at a time.

It is kept as a few sorted runs, each at least twice as long as the next, so a key takes 16 bytes, and while two runs
are merged up to 40. Looking up is a binary search in each run; NumPy does it for a whole batch. `judge.py` owns one for
copies of rows and one for each column that must be unique.
"""

from __future__ import annotations

import numpy as np

from corelane.core.errors import DataError
from corelane.core.types import BoolArray, IntArray
from corelane.data.row_keys import Words

KEY_BYTES = 40  # of one key at the worst moment, when the two longest runs are merged


class DistinctKeys:
    """Owns the keys seen so far, sorted, in runs; at most `budget_bytes` of them."""

    def __init__(self, budget_bytes: int) -> None:
        self._runs: list[Words] = []  # [2, n] each, ordered by the first lane
        self._budget_bytes = budget_bytes
        self._num_keys = 0

    def add(self, keys: Words) -> BoolArray:
        """Take `keys` [2, n]; which of them were there before, or stand further to the left among them: bool [n].

        Raises `DataError` when the distinct keys do not fit into the budget.
        """
        order = np.lexsort((keys[1], keys[0]))  # stable: of equal keys the first comes first
        ordered = keys[:, order]
        is_known = np.zeros(keys.shape[1], dtype=np.bool_)
        is_known[1:] = (ordered[:, 1:] == ordered[:, :-1]).all(axis=0)
        for run in self._runs:
            is_known |= _contains(run, ordered)
        self._append(ordered[:, ~is_known])
        found = np.empty_like(is_known)
        found[order] = is_known
        return found

    def _append(self, run: Words) -> None:
        if not run.shape[1]:
            return
        self._num_keys += run.shape[1]
        if self._num_keys * KEY_BYTES > self._budget_bytes:
            raise DataError(
                f"the rows to tell apart (data.deduplicate, unique) must fit into {self._budget_bytes} bytes at "
                f"{KEY_BYTES} bytes each, got {self._num_keys} or more; give machine.memory more, or remove the rule"
            )
        while self._runs and self._runs[-1].shape[1] < 2 * run.shape[1]:
            run = _merge(self._runs.pop(), run)
        self._runs.append(run)


def _contains(run: Words, keys: Words) -> BoolArray:
    """Which of the sorted `keys` [2, n] are in `run`. First lanes hardly ever tie, so one comparison nearly always
    decides."""
    places = np.searchsorted(run[0], keys[0])
    found = np.zeros(keys.shape[1], dtype=np.bool_)
    asked: IntArray = np.arange(keys.shape[1])
    while True:
        asked = asked[places[asked] < run.shape[1]]
        asked = asked[run[0, places[asked]] == keys[0, asked]]
        if not len(asked):
            return found
        found[asked] |= run[1, places[asked]] == keys[1, asked]
        places[asked] += 1


def _merge(one: Words, other: Words) -> Words:
    """Two sorted runs as one."""
    total = one.shape[1] + other.shape[1]
    places = np.searchsorted(one[0], other[0]) + np.arange(other.shape[1])
    is_other = np.zeros(total, dtype=np.bool_)
    is_other[places] = True
    merged = np.empty((2, total), dtype=np.uint64)
    for lane in range(2):
        merged[lane, is_other] = other[lane]
        merged[lane, ~is_other] = one[lane]
    return merged
