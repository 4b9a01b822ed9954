"""`model.nets.numbers`: bins between quantiles, and what becomes of columns with few values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from corelane.model.nets.numbers import NumberEmbedding


def encoding_of(sample: list[float], numbers: list[float], num_bins: int) -> torch.Tensor:
    """The encoding [n, num_bins] of one column: an embedding whose matrix is the identity and whose rest is zero."""
    embedding = NumberEmbedding(1, num_bins, num_bins)
    embedding.fit([np.array(sample, dtype=np.float32)])
    with torch.no_grad():
        embedding.matrix.copy_(torch.eye(num_bins))
        embedding.direction.zero_()
        embedding.shift.zero_()
        return embedding(torch.tensor(numbers)[:, None])


def test_bins_fill_one_after_the_other() -> None:
    """Between two quantiles the encoding rises from 0 to 1; bins below are 1, above 0; beyond all, the ends hold."""
    encoding = encoding_of([0.0, 1.0, 2.0, 10.0, 20.0], [0.5, 2.0, 6.0, -5.0, 99.0], num_bins=4)
    expected = [[0.5, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0.5, 0], [0, 0, 0, 0], [1, 1, 1, 1]]
    torch.testing.assert_close(encoding, torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ([3.0] * 5, [[0, 0, 0], [0, 0, 0], [0, 0, 0]]),  # constant: no bin
        ([0.0] * 9 + [6.0], [[0, 0, 0], [0.5, 0, 0], [1, 0, 0]]),  # nearly all one value: one bin
        ([0.0, 6.0] * 5, [[0, 0, 0], [0.5, 0, 0], [1, 0, 0]]),  # two values: one bin
        ([0.0, 1e-9, 6.0, 6.0], [[0, 0, 0], [0.5, 0, 0], [1, 0, 0]]),  # values that are one but for rounding
    ],
)
def test_few_values_make_fewer_bins(sample: list[float], expected: list[list[float]]) -> None:
    """A bin without width is 0 for every number, and nothing is infinite."""
    torch.testing.assert_close(encoding_of(sample, [0.0, 3.0, 6.0], 3), torch.tensor(expected, dtype=torch.float32))


def test_at_first_the_embedding_is_linear() -> None:
    """Before training, each embedded number moves in equal steps with the number."""
    embedding = NumberEmbedding(2, 5, 8)
    x = torch.tensor([[0.0, 0.0], [0.7, 0.7], [1.4, 1.4]])
    first, second, third = embedding(x)
    assert first.shape == (10,)
    torch.testing.assert_close(third - second, second - first)


def test_columns_do_not_see_each_other() -> None:
    """A change of one number changes its own embedding only."""
    embedding = NumberEmbedding(3, 4, 8)
    torch.nn.init.normal_(embedding.matrix)
    changed = embedding(torch.tensor([[0.1, 0.2, 0.3], [0.1, 0.9, 0.3]])).view(2, 3, 4)
    assert [torch.equal(changed[0, column], changed[1, column]) for column in range(3)] == [True, False, True]
