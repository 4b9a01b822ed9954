"""Making a profile: one pass over checked rows in bounded memory, whatever their number.

Rows, missing values and moments are exact. Histograms, deciles and the number of distinct numbers come from a uniform
sample of rows (`stages/sketch.py`), which is all of them while they are few; texts are counted up to a bound. Used by
`passes.py` for the training rows and by `inspection.py` for a whole source.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from corelane.core.types import IntArray
from corelane.data.dataset_profile import MAX_BINS, MAX_DESCRIBED, MAX_TOP, ColumnSummary, DataProfile, Numbers
from corelane.data.schema import Column, Schema
from corelane.data.stages.affine import Float64Array
from corelane.data.stages.categorical import counted_texts
from corelane.data.stages.moments import Moments
from corelane.data.stages.sketch import QuantileSketch

MAX_TEXTS = 1 << 15  # counted for each column: more are no categories
_TEXT_BUDGET_BYTES = 1 << 27  # for them over all columns: that many in each of 25, of 30 characters a text
_ENTRY_BYTES = 80  # of a counted text beside itself: its place in a `Counter` and the count, 52 to 76 as it grows
_SAMPLE_BUDGET = 1 << 21  # numbers kept over all columns: 16 MiB, exact up to 70,000 rows of 30 columns
_DECILES = np.arange(1, 10) / 10
_HALVES_END = 2.0**52  # from here on float64 has no number between two whole ones to put an edge at


class Profiler:
    """Owns what was seen of checked rows of `schema` and nothing else."""

    def __init__(self, schema: Schema) -> None:
        columns = _all_columns(schema)
        self._schema = schema
        self._num_columns = len(columns)
        self._columns = _described(columns, schema.targets)
        self._numbers = [column for column in self._columns if column.kind in ("numeric", "date")]
        self._places = {column.name: place for place, column in enumerate(self._numbers)}
        self._moments = Moments(len(self._numbers))
        self._sketch = QuantileSketch(len(self._numbers), _SAMPLE_BUDGET)
        categorical = [column.name for column in self._columns if column.kind == "categorical"]
        self._texts = {name: _TextCounts(_TEXT_BUDGET_BYTES // len(categorical)) for name in categorical}
        self._num_missing: Counter[str] = Counter()
        self._num_rows = 0
        self._sampled: list[Float64Array] | None = None  # the sketch's columns, once they were asked for

    def update(self, rows: pa.RecordBatch) -> None:
        """Take one batch of checked rows."""
        self._num_rows += rows.num_rows
        self._sampled = None
        for column in self._columns:
            if column.kind not in ("tensor", "image"):  # which are there in each row
                self._num_missing[column.name] += rows.column(column.name).null_count
        if self._numbers and rows.num_rows:
            values = _matrix(rows, self._numbers)
            self._moments.update(values)
            self._sketch.update(values)
        for name, counts in self._texts.items():
            counts.update(rows.column(name))

    def profile(self, num_rows: int | None = None) -> DataProfile:
        """The profile of what was seen, of `num_rows` rows in all where that was a part."""
        is_whole = num_rows is None or num_rows == self._num_rows
        schema = self._schema
        return DataProfile(
            num_rows=self._num_rows if num_rows is None else num_rows,
            num_columns=self._num_columns,
            columns=tuple(self._summary(column, is_whole=is_whole) for column in self._columns),
            targets=schema.target_names,
            task=schema.task if schema.targets else None,
        )

    def counts_between(self, name: str, cuts: Sequence[float]) -> IntArray:
        """How many of the sampled numbers of a column lie below, between and above `cuts` [k], ascending: [k + 1]."""
        return _between(self._samples()[self._places[name]], np.array(cuts))

    def counts_of(self, name: str, texts: Sequence[str]) -> IntArray:
        """How often each of `texts` [k] was seen in a column of categories, and all others together: [k + 1]."""
        counts = self._texts[name]
        known = [counts.counts.get(text, 0) for text in texts]
        return np.array([*known, counts.num_present - sum(known)])

    def _samples(self) -> list[Float64Array]:
        if self._sampled is None:
            is_any = bool(self._numbers and self._num_rows)
            self._sampled = list(self._sketch.columns()) if is_any else [np.empty(0)] * len(self._numbers)
        return self._sampled

    def _summary(self, column: Column, *, is_whole: bool) -> ColumnSummary:
        fields: dict[str, Any] = {}
        if column.name in self._texts:
            fields = self._texts[column.name].summary()
        elif column.name in self._places:
            fields = self._summary_of_numbers(column)
        fields["is_exact"] = is_whole and fields.get("is_exact", True)
        num_missing = self._num_missing[column.name]
        return ColumnSummary(column.name, column.kind, self._num_rows, num_missing, column.shape, **fields)

    def _summary_of_numbers(self, column: Column) -> dict[str, Any]:
        place = self._places[column.name]
        sample = self._samples()[place]
        if not self._moments.count[place]:
            return {"num_distinct": 0}
        low, high = float(self._moments.minimum[place]), float(self._moments.maximum[place])
        num_distinct = len(np.unique(sample))
        are_whole = bool((sample == np.floor(sample)).all())
        edges = _edges(low, high, are_whole=are_whole)
        cuts = _cuts(sample)
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = (float(values[place]) for values in (self._moments.mean, self._moments.deviation))
        numbers = Numbers(
            minimum=low,
            mean=mean if math.isfinite(mean) else None,
            maximum=high,
            deviation=deviation if math.isfinite(deviation) else None,
            edges=tuple(edges.tolist()),
            counts=tuple(_between(sample, edges[1:-1]).tolist()),
            cuts=tuple(cuts.tolist()),
            shares=tuple(_between(sample, cuts).tolist()),
        )
        return {
            "num_distinct": num_distinct,
            "is_exact": self._sketch.has_all,
            "numbers": numbers,
            "are_all_different": column.kind == "numeric" and are_whole and num_distinct == len(sample) > 0,
        }


def described_names(schema: Schema) -> list[str]:
    """The columns that a profiler of `schema` reads: not tensors and images, of which it tells their kind alone."""
    described = _described(_all_columns(schema), schema.targets)
    return [column.name for column in described if column.kind not in ("tensor", "image")]


def _all_columns(schema: Schema) -> list[Column]:
    return [*schema.columns, *schema.targets]


def _described(columns: Sequence[Column], targets: Sequence[Column]) -> list[Column]:
    """The first so many columns, the targets among them however many there are."""
    wanted = {column.name for column in targets}
    first = sorted(columns, key=lambda column: column.name not in wanted)[:MAX_DESCRIBED]
    names = {column.name for column in first}
    return [column for column in columns if column.name in names]


class _TextCounts:
    """Owns how often each text of a column was seen, up to `MAX_TEXTS` of them that take up to `num_bytes` of memory,
    and how many rows had one.
    """

    def __init__(self, num_bytes: int) -> None:
        self.counts: Counter[str] = Counter()
        self.num_present = 0
        self._has_all = True
        self._left_bytes = num_bytes

    def update(self, texts: pa.Array) -> None:
        self.num_present += len(texts) - texts.null_count
        for text, count in counted_texts(texts):
            if text is None:
                continue
            if text in self.counts or self._makes_room(text):
                self.counts[text] += count

    def _makes_room(self, text: str) -> bool:
        """Whether a text that was not seen before is counted; once one is not, no other is."""
        self._left_bytes -= sys.getsizeof(text) + _ENTRY_BYTES
        self._has_all = self._has_all and len(self.counts) < MAX_TEXTS and self._left_bytes >= 0
        return self._has_all

    def summary(self) -> dict[str, Any]:
        fields = summary_of_texts(self.counts, self.num_present)
        return fields if self._has_all else {**fields, "is_exact": False, "rarest": None}


def summary_of_texts(counts: Mapping[str, int], num_present: int) -> dict[str, Any]:
    """The fields of a `ColumnSummary` that `counts` of texts give, of `num_present` rows that have one."""
    ranked = sorted(((text, count) for text, count in counts.items() if count), key=lambda item: (-item[1], item[0]))
    return {
        "num_distinct": len(ranked),
        "top": tuple(ranked[:MAX_TOP]),
        "num_other": num_present - sum(count for _, count in ranked[:MAX_TOP]),
        "rarest": ranked[-1] if ranked else None,
        "are_all_different": bool(ranked) and ranked[0][1] == 1,
    }


def with_label_counts(profile: DataProfile, counts: Mapping[str, int]) -> DataProfile:
    """`profile` with the labels of its one target counted over all its rows."""
    total = sum(counts.values())
    fields = {"num_rows": total, "num_missing": 0, "is_exact": True, **summary_of_texts(counts, total)}
    columns = (replace(column, **fields) if column.name in profile.targets else column for column in profile.columns)
    return replace(profile, columns=tuple(columns))


def _matrix(rows: pa.RecordBatch, columns: Sequence[Column]) -> Float64Array:
    """Checked numbers and dates [n, d], NaN = missing; each column lies together in memory."""
    values = np.empty((len(columns), rows.num_rows))
    for row, column in zip(values, columns, strict=True):
        cells = rows.column(column.name)
        if column.kind == "date":
            row[:] = cells.cast(pa.int64()).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) / 1e6
        else:
            row[:] = cells.to_numpy(zero_copy_only=False)
    return values.T


def _edges(low: float, high: float, *, are_whole: bool) -> Float64Array:
    """The edges of bins of one width from `low` to `high`; a bin for each of a few whole numbers."""
    if are_whole and high - low < MAX_BINS and max(abs(low), abs(high)) < _HALVES_END:
        return np.arange(low - 0.5, high + 1.0)
    half = np.linspace(low / 2, high / 2, MAX_BINS + 1)  # the whole distance may be beyond float64
    edges = np.clip(half * 2, low, high)
    edges[0], edges[-1] = low, high
    return np.asarray(edges)


def _cuts(sample: Float64Array) -> Float64Array:
    """The deciles of a sample [n], ascending. A value that is several of them is a bin of its own, with a cut at both
    sides: else a column that was always 0 and is always 1 would not have moved.
    """
    if not len(sample):  # of a column that hardly ever has a value
        return sample
    deciles, counts = np.unique(np.quantile(sample, _DECILES, method="inverted_cdf"), return_counts=True)
    with np.errstate(over="ignore"):
        behind = np.nextafter(deciles[counts > 1], np.inf)
    return np.unique(np.concatenate([deciles, behind[np.isfinite(behind)]]))  # nothing lies above the largest float64


def _between(values: Float64Array, cuts: Float64Array) -> IntArray:
    """How many of `values` [n] lie below, between and above the ascending `cuts` [k]; one on a cut lies above it."""
    return np.bincount(np.searchsorted(cuts, values, side="right"), minlength=len(cuts) + 1)
