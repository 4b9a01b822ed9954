"""The set of seen keys: the first comes first, ties of one half are told apart, and the memory is bounded."""

from __future__ import annotations

import numpy as np
import pytest

from corelane.core.errors import DataError
from corelane.data.distinct import KEY_BYTES, DistinctKeys


@pytest.mark.parametrize("size", [0, 1, 7, 100, 1000])
def test_the_first_of_equal_keys_is_new(size: int) -> None:
    """Whatever the batches and however often first halves tie, a key is known if and only if it came before."""
    generator = np.random.default_rng(size)
    keys = DistinctKeys(1 << 20)
    seen: set[tuple[int, ...]] = set()
    for _ in range(40):
        batch = np.stack([generator.integers(0, 12, size), generator.integers(0, 30, size)]).astype(np.uint64)
        expected = []
        for key in map(tuple, batch.T.tolist()):
            expected.append(key in seen)
            seen.add(key)
        assert keys.add(batch).tolist() == expected


def test_more_keys_than_the_budget_holds_are_refused_in_words() -> None:
    """The error says how much there was, what a row takes, and what to do; known keys cost nothing."""
    keys = DistinctKeys(100 * KEY_BYTES)
    numbers = np.arange(200, dtype=np.uint64).reshape(2, 100)
    assert not keys.add(numbers).any()
    assert keys.add(numbers).all()
    with pytest.raises(DataError, match=r"must fit into 4000 bytes at 40 bytes each, got 101 or more; give machine"):
        keys.add(np.array([[7], [7]], dtype=np.uint64))
