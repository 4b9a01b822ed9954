"""Which rows of a source repeat earlier ones: copies, and values that must be unique. Rows are judged in their order.

`rule_keys` runs on the threads, for any piece by itself; `RowJudge` looks at one piece after the other and remembers.
Used by the first pass of `passes.py`; the second leaves out what the first has found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from corelane.core.types import BoolArray, IntArray
from corelane.data.distinct import DistinctKeys
from corelane.data.row_keys import Words, row_keys
from corelane.data.rules import RowRules
from corelane.data.stages.column import shorten


@dataclass(frozen=True, slots=True)
class RuleKeys:
    """The keys of n checked rows: over the compared columns (None where copies are kept), and for each unique column
    with the rows [m] that have a value there.
    """

    copies: Words | None
    values: tuple[tuple[IntArray, Words], ...]


def rule_keys(rules: RowRules, rows: pa.RecordBatch) -> RuleKeys:
    """What `rules` want to know of checked `rows`."""
    copies = row_keys(rows, rules.compared) if rules.compared else None
    values = []
    for name in rules.unique:
        present = np.flatnonzero(rows.column(name).is_valid().to_numpy(zero_copy_only=False))
        values.append((present, row_keys(rows, [name])[:, present]))
    return RuleKeys(copies, tuple(values))


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of n rows: which are copies, and the first column that repeats a value (its index in `RowRules.unique`) or -1."""

    is_copy: BoolArray
    repeats: IntArray

    @property
    def is_left_out(self) -> BoolArray:
        """Which rows do not train."""
        return self.is_copy | (self.repeats >= 0)

    def faults(self) -> Iterator[tuple[int, int]]:
        """(row, index of the unique column) of the rows that repeat a value."""
        for index in np.flatnonzero(self.repeats >= 0).tolist():
            yield index, int(self.repeats[index])


class RowJudge:
    """Owns what has been seen of the rows of one source, within `budget_bytes`, and nothing else."""

    def __init__(self, rules: RowRules, budget_bytes: int) -> None:
        num_sets = bool(rules.compared) + len(rules.unique)
        share = budget_bytes // max(num_sets, 1)
        self._rows = DistinctKeys(share)
        self._values = tuple(DistinctKeys(share) for _ in rules.unique)

    def judge(self, keys: RuleKeys, num_rows: int) -> Judgement:
        """Judge the next `num_rows` rows. The first row with a value keeps it; copies are no second rows.

        Raises `DataError` when what has been seen does not fit into the budget.
        """
        is_copy = np.zeros(num_rows, dtype=np.bool_) if keys.copies is None else self._rows.add(keys.copies)
        repeats: IntArray = np.full(num_rows, -1, dtype=np.int64)
        for index, (seen, (present, values)) in enumerate(zip(self._values, keys.values, strict=True)):
            is_asked = ~is_copy[present]
            asked = present[is_asked]
            is_known = seen.add(values[:, is_asked])
            repeats[asked[is_known & (repeats[asked] < 0)]] = index
        return Judgement(is_copy, repeats)


def repeated(name: str, rows: pa.RecordBatch, index: int) -> tuple[str, str]:
    """Code and reason of the row at `index` whose value in the column `name` came before."""
    value = rows.column(name)[index].as_py()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "duplicate_value", f"{name} must be another in each row, got {shorten(value)} again"
