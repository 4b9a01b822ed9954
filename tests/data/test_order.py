"""The order of an epoch: a permutation, the same everywhere and for ever, shuffled in windows of scattered blocks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from corelane.core.types import IntArray
from corelane.data.order import BLOCK_BYTES, MAX_BLOCK_ROWS, WINDOW_BLOCKS, EpochOrder, epoch_order, mix

SHAPES = [(1, 8), (2, 8), (1000, 100), (100_003, 3136), (1_000_000, 136), (1_100_000, 1), (5000, 300_000)]
"""(rows, bytes of one): from one window of one block to windows of single rows, with a last block that is short."""


def _join(pieces: Iterable[IntArray]) -> IntArray:
    return np.concatenate([*pieces, np.empty(0, dtype=np.int64)])


def _rows(num_rows: int, row_bytes: int, epoch: int = 3) -> IntArray:
    return _join(epoch_order(7, epoch, num_rows, row_bytes).rows())


@pytest.mark.parametrize(("num_rows", "row_bytes"), [(0, 8), *SHAPES])
def test_every_row_comes_once(num_rows: int, row_bytes: int) -> None:
    """An order is a permutation, whatever the size, and each window visits the rows of its ranges."""
    order = epoch_order(7, 3, num_rows, row_bytes)
    assert len(order) == num_rows
    assert np.array_equal(np.sort(_join(order.rows())), np.arange(num_rows))
    for index in range(order.num_windows):
        ranged = _join(np.arange(first, end) for first, end in order.ranges(index))
        assert np.array_equal(np.sort(order.window(index)), ranged)


def test_it_is_a_function_of_seed_epoch_and_size_alone() -> None:
    """The same order each time, another for every other epoch or seed."""
    for num_rows, row_bytes in ((1000, 100), (300_000, 3136)):
        rows = _rows(num_rows, row_bytes)
        assert np.array_equal(rows, _rows(num_rows, row_bytes))
        for other in (epoch_order(7, 4, num_rows, row_bytes), epoch_order(8, 3, num_rows, row_bytes)):
            assert np.mean(_join(other.rows()) == rows) < 0.01


def test_the_order_does_not_change_between_releases() -> None:
    """These very rows: a resumed run depends on it."""
    assert _join(epoch_order(7, 0, 12, 8).rows()).tolist() == [0, 11, 4, 9, 5, 10, 7, 2, 6, 8, 1, 3]
    large = epoch_order(7, 0, 2_000_000, 136)
    firsts = [large.window(index)[:2].tolist() for index in range(large.num_windows)]
    assert firsts == [[1378442, 918857], [1380166, 335743], [35117, 1294767], [438244, 1332995], [696216, 500954]]


@pytest.mark.parametrize(("num_rows", "row_bytes"), SHAPES)
def test_an_epoch_can_be_entered_anywhere(num_rows: int, row_bytes: int) -> None:
    """From any position on, the rows are those that come after it in the whole order."""
    order = epoch_order(7, 3, num_rows, row_bytes)
    rows = _join(order.rows())
    ends = np.cumsum([len(order.window(index)) for index in range(order.num_windows)]).tolist()
    for start in {0, 1, num_rows // 3, ends[0] - 1, ends[0], num_rows - 1, num_rows}:
        assert np.array_equal(_join(order.rows(start)), rows[start:])


def test_a_billion_rows_cost_what_a_window_costs() -> None:
    """The middle of an epoch of a billion rows is there at once, and nothing as long as the epoch is made."""
    order = epoch_order(7, 3, 10**9, 8)
    window = next(order.rows(5 * 10**8))
    assert 0 < len(window) <= WINDOW_BLOCKS * MAX_BLOCK_ROWS
    assert len(np.unique(window)) == len(window)


def test_small_data_are_permuted_as_a_whole() -> None:
    """What fits a window is one, and the first rows are as likely to come last as first."""
    assert epoch_order(7, 3, WINDOW_BLOCKS * BLOCK_BYTES // 1024, 1024).num_windows == 1
    places = np.array([_join(epoch_order(1, epoch, 8, 8).rows()) for epoch in range(4000)])
    counts = np.array([np.bincount(column, minlength=8) for column in places.T])
    assert np.abs(counts - 500).max() < 5 * np.sqrt(500)


def test_rows_of_data_sorted_by_label_are_well_mixed() -> None:
    """Sorted by ten labels, 300,000 images: each batch has nearly the share of every label that chance alone would give
    it, neighbours in the order are no neighbours in the data, and the place in the epoch says little about the row.
    """
    num_rows = 300_000
    rows = _rows(num_rows, 3136)
    labels = (rows * 10 // num_rows).reshape(-1, 100)
    counts = np.array([np.bincount(batch, minlength=10) for batch in labels])
    by_chance = np.sqrt(100 * 0.1 * 0.9)
    assert abs(counts.std() - by_chance) < 0.15 * by_chance
    assert np.mean(np.abs(np.diff(rows)) < 1000) < 0.02
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(np.arange(num_rows), rows)[0, 1]) < 0.05


def test_windows_are_of_one_size_and_read_in_blocks() -> None:
    """No window is small, so none mixes few places; each reads stretches of at least a block."""
    order = EpochOrder(7, 3, 250_000, 3136)
    sizes = [len(order.window(index)) for index in range(order.num_windows)]
    assert max(sizes) - min(sizes) <= 2 * (BLOCK_BYTES // 3136)
    assert max(sizes) * 3136 <= WINDOW_BLOCKS * BLOCK_BYTES
    stretches = [end - first for index in range(order.num_windows) for first, end in order.ranges(index)]
    assert sorted(stretches)[1] >= BLOCK_BYTES // 3136


def test_mixing_is_one_to_one() -> None:
    """Different positions get different numbers; two purposes are unrelated; inputs are not changed."""
    positions = np.arange(200_000)
    mixed = mix(positions, "order", 1, 0)
    assert len(np.unique(mixed)) == len(positions)
    assert not (mixed == mix(positions, "split", 1, 0)).any()
    assert not (mixed == mix(positions, "order", 10)).any()
    assert np.array_equal(positions, np.arange(200_000))
