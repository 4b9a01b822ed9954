"""The transformer encoder over token ids, or over series of feature vectors.

Shapes, for n rows of l positions, width w, h heads, feed-forward width f and k outputs:

    tokens            int64 [n, l]          or a series, float32 [n, l, d]
    embed             [n, l, w]             a vector for each token, or a linear map of each feature vector
    add positions     [n, l, w]             a learned vector for each position
    each layer        [n, l, w]             x + attention(norm(x)), then x + linear(relu(linear(norm(x)))), f within
    mean over l       [n, w]
    linear            [n, k]

Attention has h heads of w/h numbers; dropout acts on what each half of a layer adds. With `mask_padding` token 0 is
neither attended to nor in the mean. There is no norm after the last layer: with its defaults this is the
`transformer-b32` network of the benchmarks.

Vaswani et al., "Attention is all you need", NeurIPS (2017); norm first: Xiong et al., "On layer normalization in the
transformer architecture", ICML (2020).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, scaled_dot_product_attention

PADDING = 0


class Transformer(nn.Module):
    """`num_layers` encoder layers. `vocabulary` counts the tokens; None for a series of `num_features` a position."""

    def __init__(
        self,
        length: int,
        num_outputs: int,
        *,
        vocabulary: int | None,
        num_features: int = 0,
        width: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        feed_forward: int = 512,
        dropout: float = 0.0,
        mask_padding: bool = False,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(num_features, width) if vocabulary is None else nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.empty(length, width).normal_(std=0.02))  # as BERT and GPT start theirs
        self.layers = nn.Sequential(*(Layer(width, num_heads, feed_forward, dropout) for _ in range(num_layers)))
        self.output = nn.Linear(width, num_outputs)
        self._mask_padding = mask_padding

    def forward(self, series: Tensor) -> Tensor:
        """Logits [n, num_outputs] for tokens [n, length] or a series [n, length, num_features]."""
        hidden = self.embed(series) + self.positions
        if not self._mask_padding:
            hidden = self.layers(hidden)
            logits: Tensor = self.output(hidden.mean(dim=1))
            return logits
        is_token = series != PADDING
        # A row of padding alone attends to its first position, so that its answer is finite.
        first = is_token[:, :1] | ~is_token.any(dim=1, keepdim=True)
        is_token = torch.cat([first, is_token[:, 1:]], dim=1)
        for layer in self.layers:
            hidden = layer(hidden, is_token)
        weight = is_token.to(hidden.dtype).unsqueeze(2)
        masked: Tensor = self.output((hidden * weight).sum(dim=1) / weight.sum(dim=1))
        return masked


class Layer(nn.Module):
    """Attention over the positions and a perceptron at each, both added to what comes in, which is normalised first."""

    def __init__(self, width: int, num_heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, feed_forward), nn.Linear(feed_forward, width)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self._num_heads = num_heads
        # One matrix for queries, keys and values, started as three square ones would be.
        nn.init.xavier_uniform_(self.project.weight, gain=2**-0.5)
        for layer in (self.project, self.join):
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, is_token: Tensor | None = None) -> Tensor:
        """[n, l, width] to the same; `is_token` bool [n, l] says which positions are attended to, all without it."""
        x = x + self.dropout(self._attend(self.first_norm(x), is_token))
        added: Tensor = x + self.dropout(self.narrow(relu(self.widen(self.second_norm(x)))))
        return added

    def _attend(self, x: Tensor, is_token: Tensor | None) -> Tensor:
        rows, length, width = x.shape
        heads = self.project(x).view(rows, length, 3, self._num_heads, width // self._num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        mask = None if is_token is None else is_token[:, None, None, :]
        seen = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        joined: Tensor = self.join(seen.transpose(1, 2).reshape(rows, length, width))
        return joined
