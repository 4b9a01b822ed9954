"""The multi-layer perceptron: the network for tables, and the simplest one for anything else.

Shapes, for n rows, inputs x1 [n, ...], x2 [n, ...], ... with d numbers per row in all, widths h1, h2 and k outputs:

    x1, x2, ...  -> flatten each and join      [n, d]
                 -> linear, ReLU, dropout      [n, h1]
                 -> linear, ReLU, dropout      [n, h2]
                 -> linear                     [n, k]

Dropout: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers of the given `hidden` widths with ReLU between them; no activation after the last."""

    def __init__(self, num_inputs: int, hidden: Sequence[int], num_outputs: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = num_inputs
        for next_width in hidden:
            layers += [nn.Linear(width, next_width), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = next_width
        self.layers = nn.Sequential(*layers, nn.Linear(width, num_outputs))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits [n, num_outputs] for `inputs` [n, ...] each."""
        flat = [tensor.flatten(1) for tensor in inputs]
        logits: Tensor = self.layers(flat[0] if len(flat) == 1 else torch.cat(flat, dim=1))
        return logits
