"""What a profile says of rows: exact where it is promised, within its bounds otherwise, whatever the batches."""

from __future__ import annotations

import datetime
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from corelane.data.dataset_profile import MAX_BINS, MAX_DESCRIBED, MAX_TOP, ColumnSummary, DataProfile
from corelane.data.order import mix
from corelane.data.profiling import MAX_TEXTS, Profiler, with_label_counts
from corelane.data.schema import Column, Kind, Schema
from tests.data.examples import LABEL, batch


def profiled(values: Any, kind: Kind, batch_rows: int = 1000) -> tuple[ColumnSummary, Profiler]:
    """The summary of a single column "x"."""
    profiler = Profiler(Schema((Column("x", kind),), (), "classification"))
    rows = batch({"x": values})
    for start in range(0, rows.num_rows, batch_rows):
        profiler.update(rows.slice(start, batch_rows))
    return profiler.profile().columns[0], profiler


@pytest.mark.parametrize("batch_rows", [1, 7, 1000])
def test_numbers(batch_rows: int) -> None:
    """Missing values, moments, distinct values and the histogram of few rows are exact, whatever the batches."""
    summary, _ = profiled([1.0, 4.0, None, 4.0, 11.0], "numeric", batch_rows)
    assert (summary.num_rows, summary.num_missing, summary.num_distinct, summary.is_exact) == (5, 1, 3, True)
    numbers = summary.numbers
    assert numbers is not None
    assert (numbers.minimum, numbers.mean, numbers.maximum) == (1.0, 5.0, 11.0)
    assert numbers.deviation == pytest.approx(np.std([1, 4, 4, 11]))
    assert numbers.edges == tuple(np.arange(0.5, 12.0))
    assert {edge: count for edge, count in zip(numbers.edges, numbers.counts, strict=False) if count} == {
        0.5: 1,
        3.5: 2,
        10.5: 1,
    }


def test_a_million_numbers() -> None:
    """Of many rows the range is exact, bins and deciles hold what they should within the sample's error."""
    values = np.random.default_rng(0).normal(size=3_000_000)
    summary, _ = profiled(values, "numeric", 100_000)
    numbers = summary.numbers
    assert numbers is not None
    assert (numbers.minimum, numbers.maximum) == (values.min(), values.max())
    assert not summary.is_exact
    assert len(numbers.counts) == MAX_BINS
    assert np.allclose(np.array(numbers.shares) / sum(numbers.shares), 0.1, atol=0.005)
    assert np.allclose(numbers.cuts, np.quantile(values, np.arange(1, 10) / 10), atol=0.02)


@pytest.mark.parametrize(
    "values",
    [
        [-1.7e308, 1.7e308, 0.5],
        [5e-324, 1e-323, 2e-323],
        [3.5] * 4,
        [1e15 + 0.5, 1e15],
        [0.0, -0.0],
        [2.0**60, 1.0],
        [1234567890123456788.0] * 3,
        [-(2.0**53), 4.0 - 2.0**53],
        [2.0**52 - 2, 2.0**52 - 1],
        [1.0] + [sys.float_info.max] * 9,
    ],
)
def test_numbers_at_the_edge_of_float64(values: list[float]) -> None:
    """Histograms and deciles of huge, tiny, equal and close numbers hold all of them and can be written as JSON."""
    summary, _ = profiled(values, "numeric")
    assert summary.numbers is not None
    assert sum(summary.numbers.counts) == sum(summary.numbers.shares) == len(values)
    assert list(summary.numbers.edges) == sorted(summary.numbers.edges)
    profile = DataProfile(len(values), 1, (summary,))
    assert DataProfile.from_json(profile.to_json()) == profile


def test_columns_without_a_value() -> None:
    """A column that is missing everywhere, and one without rows, have no numbers and no texts."""
    assert profiled(pa.array([None, None], pa.float64()), "numeric")[0].numbers is None
    summary, _ = profiled(pa.array([], pa.string()), "categorical")
    assert (summary.top, summary.num_distinct, summary.rarest) == ((), 0, None)


def test_a_value_that_the_sample_missed() -> None:
    """A column with one value among millions has its range; where it was not sampled the bins are empty."""
    num_rows = 2_200_000
    place = int(mix(np.arange(num_rows), "quantile sketch").argmax())  # the first row that a sample leaves out
    values = np.full(num_rows, 3.0)
    summary, profiler = profiled(pa.array(values, mask=np.arange(num_rows) != place), "numeric", 100_000)
    assert summary.numbers is not None
    assert (summary.numbers.minimum, summary.num_missing) == (3.0, num_rows - 1)
    assert (summary.num_distinct, summary.is_exact, summary.are_all_different) == (0, False, False)
    assert profiler.counts_between("x", summary.numbers.cuts).tolist() == list(summary.numbers.shares) == [0]


def test_dates_are_seconds() -> None:
    """A date column has numbers: seconds since 1970, missing ones left out."""
    times = [datetime.datetime(2024, 1, 1), None, datetime.datetime(1969, 12, 31)]
    summary, _ = profiled(pa.array(times, pa.timestamp("us")), "date")
    assert summary.numbers is not None
    assert (summary.numbers.minimum, summary.numbers.maximum) == (-86400.0, 1704067200.0)
    assert summary.num_missing == 1
    assert not summary.are_all_different


@pytest.mark.parametrize("is_encoded", [True, False])
def test_texts(is_encoded: bool) -> None:
    """The most frequent texts first, the rest together, the rarest named; dictionaries count the same."""
    texts = [f"t{index:02}" for index in range(30) for _ in range(40 - index)] + [None] * 5
    column = pa.array(texts)
    summary, profiler = profiled(column.dictionary_encode() if is_encoded else column, "categorical", 100)
    assert len(summary.top) == MAX_TOP
    assert summary.top[0] == ("t00", 40)
    assert summary.rarest == ("t29", 11)
    assert summary.num_distinct == 30
    assert sum(count for _, count in summary.top) + summary.num_other == len(texts) - 5
    assert profiler.counts_of("x", ["t01", "absent"]).tolist() == [39, 0, len(texts) - 5 - 39]


def test_more_texts_than_are_counted() -> None:
    """An identifier column takes bounded memory, and says that there may be more texts than were counted."""
    summary, _ = profiled([f"row {index}" for index in range(MAX_TEXTS + 500)], "categorical", 5000)
    assert (summary.num_distinct, summary.is_exact, summary.rarest) == (MAX_TEXTS, False, None)
    assert summary.are_all_different
    assert summary.num_other == MAX_TEXTS + 500 - MAX_TOP


def test_long_texts_of_many_columns_take_bounded_memory() -> None:
    """Documents in each of hundreds of columns are counted until their share of the memory is spent, and no further."""
    names = [f"c{index}" for index in range(400)]
    profiler = Profiler(Schema(tuple(Column(name, "categorical") for name in names), (), "classification"))
    for first in range(0, 900, 300):
        texts = pa.array([f"{row:04}" * 250 for row in range(first, first + 300)])
        profiler.update(batch(dict.fromkeys(names, texts)))
    profile = profiler.profile()
    for column in profile.columns:
        assert 100 < (column.num_distinct or 0) < 400
        assert (column.num_rows, column.num_missing, column.is_exact, column.rarest) == (900, 0, False, None)
        assert column.num_other == 900 - MAX_TOP


def test_wide_tables_are_bounded_and_keep_the_target() -> None:
    """Of thousands of columns the first thousand are described, the target among them."""
    columns = tuple(Column(f"c{index}", "numeric") for index in range(MAX_DESCRIBED + 5))
    profiler = Profiler(Schema(columns, (LABEL,), "classification"))
    profiler.update(batch({**{column.name: [1.0] for column in columns}, "label": ["a"]}))
    profile = profiler.profile()
    assert (len(profile.columns), profile.num_columns) == (MAX_DESCRIBED, MAX_DESCRIBED + 6)
    assert profile.column("label") is not None


def test_counts_within_other_bins() -> None:
    """A column is counted into the bins of another profile, those beyond its ends included."""
    _, profiler = profiled([0.0, 1.0, 2.0, 5.0, None], "numeric")
    assert profiler.counts_between("x", [1.0, 3.0]).tolist() == [1, 2, 1]
    assert profiler.counts_between("x", []).tolist() == [4]


def test_a_sample_says_so() -> None:
    """Where only a part of the rows was seen, the number of distinct values is a lower bound."""
    profiler = Profiler(Schema((Column("x", "numeric"),), (LABEL,), "classification"))
    profiler.update(batch({"x": [1.0, 2.0], "label": ["a", "a"]}))
    assert [column.is_exact for column in profiler.profile().columns] == [True, True]
    assert [column.is_exact for column in profiler.profile(1000).columns] == [False, False]


def test_labels_counted_elsewhere() -> None:
    """Where the profile saw a sample, the target's labels are those of all rows."""
    profiler = Profiler(Schema((Column("x", "numeric"),), (LABEL,), "classification"))
    profiler.update(batch({"x": [1.0, 2.0], "label": ["a", "a"]}))
    target = with_label_counts(profiler.profile(1000), {"a": 990, "b": 10, "c": 0}).column("label")
    assert target is not None
    assert (target.num_rows, target.num_distinct, target.rarest) == (1000, 2, ("b", 10))
