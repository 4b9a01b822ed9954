"""The gated recurrent network for series: it reads position after position and answers after the last.

Shapes, for n series of l positions with d numbers each, width w and k outputs:

    series             [n, l, d]
    each GRU layer     [n, l, w]     dropout between layers
    last position      [n, w]
    linear             [n, k]

With its defaults this is the `gru-b64` network of the benchmarks. Cho et al., "Learning phrase representations using
RNN encoder-decoder for statistical machine translation", EMNLP (2014).
"""

from __future__ import annotations

from torch import Tensor, nn


class GRU(nn.Module):
    """`num_layers` GRU layers of `width` numbers over series of `num_features` numbers a position."""

    def __init__(
        self, num_features: int, width: int, num_layers: int, num_outputs: int, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        between = dropout if num_layers > 1 else 0.0  # torch warns of dropout that acts nowhere
        self.layers = nn.GRU(num_features, width, num_layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.output = nn.Linear(width, num_outputs)

    def forward(self, series: Tensor) -> Tensor:
        """Logits [n, num_outputs] for `series` [n, length, num_features]."""
        hidden, _ = self.layers(series)
        logits: Tensor = self.output(self.dropout(hidden[:, -1]))
        return logits
