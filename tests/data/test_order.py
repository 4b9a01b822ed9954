"""The order of an epoch: a permutation that depends on seed and epoch alone."""

from __future__ import annotations

import numpy as np
import pytest

from corelane.data.order import epoch_order, mix


@pytest.mark.parametrize("num_rows", [0, 1, 2, 1000])
def test_an_epoch_visits_every_row_once(num_rows: int) -> None:
    """The order is a permutation of int64 indices."""
    order = epoch_order(7, 3, num_rows)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(num_rows))


def test_the_order_is_a_pure_function() -> None:
    """Asked again it is the same; another epoch, another seed or another number of rows shuffles anew."""
    order = epoch_order(7, 3, 1000)
    assert np.array_equal(order, epoch_order(7, 3, 1000))
    for other in (epoch_order(7, 4, 1000), epoch_order(8, 3, 1000)):
        assert (order == other).sum() < 10


def test_known_values_do_not_change() -> None:
    """A run that is resumed by a later release sees the same order."""
    assert epoch_order(7, 0, 12).tolist() == [0, 11, 4, 9, 5, 10, 7, 2, 6, 8, 1, 3]


def test_every_place_is_equally_likely() -> None:
    """Over many epochs each row comes first, and each place holds each row, about equally often."""
    places = np.array([epoch_order(1, epoch, 8) for epoch in range(4000)])
    counts = np.array([np.bincount(places[:, place], minlength=8) for place in range(8)])
    assert np.abs(counts / 500 - 1).max() < 0.2


def test_mixed_numbers_never_tie_and_purposes_differ() -> None:
    """Different positions get different numbers; two purposes are unrelated; inputs are not changed."""
    positions = np.arange(200_000)
    mixed = mix(positions, "order", 1, 0)
    assert len(np.unique(mixed)) == len(positions)
    assert not (mixed == mix(positions, "split", 1, 0)).any()
    assert not (mixed == mix(positions, "order", 10)).any()
    assert np.array_equal(positions, np.arange(200_000))
