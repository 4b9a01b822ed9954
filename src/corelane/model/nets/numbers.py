"""Embeddings of numbers: each one becomes a few, so that a network can bend where the data do.

Shapes, for n rows of d numbers, at most b bins and e numbers out for each number in:

    numbers x             [n, d]
    encoding              [n, d, b]     how far x has come through each bin of its column, 0 to 1
    embedding             [n, d * e]    x times a vector, plus the encoding times a matrix, plus a vector

Gorishniy, Rubachev and Babenko, "On embeddings for numerical features in tabular deep learning", NeurIPS (2022). Bins
are between quantiles of the training part. Unlike in the paper the encoding ends with the first and the last bin: what
lies beyond all that was seen is taken for the farthest that was, as trees take it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from corelane.core.types import Array

_NEAREST = 1e-6  # closer edges, relative to the column's range, are one: a bin between them would be a jump


class NumberEmbedding(nn.Module):
    """A piecewise-linear embedding of each of `num_columns` numbers to `width` numbers.

    The bins are buffers, so they are saved and exported with the weights. Until `fit` they are even ones from -3 to 3,
    which suit standardised numbers. The matrix starts at zero: at first the embedding is linear in each number.
    """

    start: Tensor
    rate: Tensor
    constant_buffers = frozenset({"start", "rate"})  # no step changes them, so training need not copy them

    def __init__(self, num_columns: int, width: int, num_bins: int) -> None:
        super().__init__()
        # Variance 1, where the paper's code has 1 / (3 width): in a few epochs more is learnt (docs/LOG.md).
        self.direction = nn.Parameter(torch.empty(num_columns, width).uniform_(-1.0, 1.0) * 3**0.5)
        self.shift = nn.Parameter(torch.empty(num_columns, width).uniform_(-1.0, 1.0) * width**-0.5)
        self.matrix = nn.Parameter(torch.zeros(num_columns, num_bins, width))
        edges = np.tile(np.linspace(-3.0, 3.0, num_bins + 1), (num_columns, 1))
        start, rate = _bins(edges, num_bins)
        self.register_buffer("start", torch.from_numpy(start))
        self.register_buffer("rate", torch.from_numpy(rate))

    def fit(self, columns: Iterable[Array]) -> None:
        """Take the bins from a sample of each column, [m] each: between its quantiles, fewer where values repeat.

        One column is copied at a time, as float64.
        """
        num_bins = self.start.shape[1]
        shares = np.linspace(0.0, 1.0, num_bins + 1)
        edges = [np.quantile(column.astype(np.float64), shares) for column in columns]
        start, rate = _bins(np.array(edges), num_bins)
        self.start.copy_(torch.from_numpy(start))
        self.rate.copy_(torch.from_numpy(rate))

    def forward(self, numbers: Tensor) -> Tensor:
        """[n, d] to [n, d * width]."""
        columns = numbers.t().unsqueeze(2)  # columns first: one matrix product for each
        encoding = ((columns - self.start.unsqueeze(1)) * self.rate.unsqueeze(1)).clamp(0.0, 1.0)
        bent = torch.bmm(encoding, self.matrix)
        embedded = torch.addcmul(bent + self.shift.unsqueeze(1), columns, self.direction.unsqueeze(1))
        return embedded.transpose(0, 1).flatten(1)


def _bins(edges: Array, num_bins: int) -> tuple[Array, Array]:
    """Where each bin starts and one over its width, float32 [d, num_bins], from sorted edges [d, num_bins + 1].

    A bin that is not there, because its edges are one, has the rate 0 and is 0 for every number.
    """
    start = np.zeros((len(edges), num_bins), dtype=np.float32)
    rate = np.zeros((len(edges), num_bins), dtype=np.float32)
    for column, own in enumerate(edges.astype(np.float32)):
        distinct = _distinct(own)
        found = len(distinct) - 1
        start[column, :found] = distinct[:-1]
        rate[column, :found] = 1.0 / np.diff(distinct)
    return start, rate


def _distinct(edges: Array) -> Array:
    """Those of the sorted `edges` that lie apart from the one before, the first always."""
    nearest = max(float(edges[-1] - edges[0]) * _NEAREST, float(np.finfo(np.float32).tiny))
    kept = [edges[0]]
    for edge in edges[1:]:
        if edge - kept[-1] > nearest:
            kept.append(edge)
    return np.array(kept, dtype=np.float32)
