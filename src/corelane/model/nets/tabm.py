"""TabM, the network for tables: an ensemble of perceptrons that share all but a little, trained as one.

Shapes, for n rows of d numbers and c other features, k members, embeddings of e, widths h1, h2 and o outputs:

    features               [n, d + c]
    embed the numbers      [n, d * e + c]      see `numbers.py`; one-hot and other features pass as they are
    scale for each member  [n, k, d * e + c]   by a vector of its own (never made: the first weights are scaled)
    linear, ReLU, dropout  [n, k, h1]          the same weights for all members
    linear, ReLU, dropout  [n, k, h2]          the same
    linear                 [n, k, o]           weights of its own for each member

In training mode the output is [n, k, o]: each member has its own loss. In evaluation mode it is [n, o], the logits of
the mean of the members' probabilities, or their mean for a regression.

Gorishniy, Kotelnikov and Babenko, "TabM: Advancing tabular deep learning with parameter-efficient ensembling", ICLR
(2025); this is its variant TabM-mini, which with embeddings is as good as the full one and needs one scaling a member.
The rest is `numbers.py`'s paper. The first scales are others than the paper's, see `_SPREAD`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import log

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, log_softmax, relu, softplus

from corelane.core.types import NamedArrays
from corelane.model.nets.numbers import NumberEmbedding

SAMPLE_ROWS = 1 << 16  # of the training part, for the quantiles: 1,365 in each of 48 bins
SAMPLE_BYTES = 1 << 28  # and fewer where they are wide: of 5,000 numbers 13,421 rows, 280 in each bin

# Deviation of the first scales around 1. The paper draws them around 0: then members, which see inputs of other signs,
# at first unlearn what the others learn, and many epochs are lost (docs/LOG.md).
_SPREAD = 0.5

Combine = Callable[[Tensor], Tensor]
"""The members' outputs [n, k, o] to one output [n, o]."""


class TabM(nn.Module):
    """`num_members` perceptrons over inputs of `num_inputs` numbers in all, those at `numbers` embedded.

    With an `embedding` of 0 nothing is. `hidden` has at least one width.
    """

    numbers: Tensor
    others: Tensor

    def __init__(
        self,
        num_inputs: int,
        numbers: Sequence[int],
        hidden: Sequence[int],
        num_outputs: int,
        *,
        num_members: int,
        embedding: int,
        num_bins: int,
        combine: Combine,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        numbers = numbers if embedding else []
        others = sorted(set(range(num_inputs)) - set(numbers))
        self.register_buffer("numbers", torch.tensor(list(numbers), dtype=torch.int64), persistent=False)
        self.register_buffer("others", torch.tensor(others, dtype=torch.int64), persistent=False)
        self.embedding = NumberEmbedding(len(numbers), embedding, num_bins) if len(numbers) else None
        self.scale = nn.Parameter(_scales(num_members, [embedding] * len(numbers) + [1] * len(others)))
        self.first = nn.Linear(self.scale.shape[1], hidden[0])
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(hidden))
        bound = hidden[-1] ** -0.5
        self.weight = nn.Parameter(torch.empty(num_members, hidden[-1], num_outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_members, 1, num_outputs).uniform_(-bound, bound))
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self._combine = combine

    def fit_inputs(self, sample: NamedArrays) -> None:
        """Take the bins of the embedding from rows of the training part, by input; the first one holds the numbers."""
        if self.embedding is not None:
            rows = next(iter(sample.values()))
            flat = rows.reshape(len(rows), -1)
            self.embedding.fit(flat[:, place] for place in self.numbers.tolist())

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits [n, o] for `inputs` [n, ...] each, [n, k, o] in training mode."""
        hidden = self._first(self._embed(inputs))
        for layer in self.layers:
            hidden = self.dropout(relu(layer(hidden)))
        members = torch.baddbmm(self.bias, hidden.transpose(0, 1), self.weight).transpose(0, 1)
        return members if self.training else self._combine(members)

    def _embed(self, inputs: Sequence[Tensor]) -> Tensor:
        flat = [tensor.flatten(1) for tensor in inputs]
        joined = flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)
        if self.embedding is None:
            return joined
        embedded: Tensor = self.embedding(joined.index_select(1, self.numbers))
        if not len(self.others):
            return embedded
        return torch.cat([embedded, joined.index_select(1, self.others)], dim=1)

    def _first(self, features: Tensor) -> Tensor:
        """The first layer of all members, as one matrix product: scaling the weights is less work than the rows."""
        num_members, width = len(self.scale), len(self.first.bias)
        weight = (self.scale.unsqueeze(1) * self.first.weight).flatten(0, 1)
        bias = self.first.bias.expand(num_members, -1).flatten()
        hidden = linear(features, weight, bias).view(-1, num_members, width)
        dropped: Tensor = self.dropout(relu(hidden))
        return dropped


def mean(members: Tensor) -> Tensor:
    """Regression: the mean of the members' answers."""
    return members.mean(dim=1)


def softmax_mean(members: Tensor) -> Tensor:
    """Logits whose softmax is the mean of the members': its logarithm, in a form that cannot overflow."""
    return log_softmax(members, dim=2).logsumexp(dim=1) - log(members.shape[1])


def sigmoid_mean(members: Tensor) -> Tensor:
    """Logits whose sigmoid is the mean of the members': log p - log (1 - p).

    By softplus: logsigmoid is exported as the logarithm of a sigmoid, which ONNX Runtime rounds to 0 or 1 beyond 18.
    """
    return (-softplus(-members)).logsumexp(dim=1) - (-softplus(members)).logsumexp(dim=1)


COMBINE: Mapping[str, Combine] = {
    "classification": softmax_mean,
    "multi_class": softmax_mean,
    "binary": sigmoid_mean,
    "multi_label": sigmoid_mean,
    "regression": mean,
}
"""How the members' outputs become one, by task."""


def _scales(num_members: int, chunks: Sequence[int]) -> Tensor:
    """Scales [num_members, sum of chunks] around 1, the numbers of an embedding scaled alike at first."""
    scales = 1.0 + _SPREAD * torch.randn(num_members, len(chunks))
    return scales.repeat_interleave(torch.tensor(chunks), dim=1)
