"""The cases' networks in plain PyTorch, for the peers that are written in it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.training.cases import NUM_CHANNELS, NUM_CLASSES, NUM_FEATURES, NUM_POSITIONS, NUM_TOKENS, Case

PIXELS = 28
WIDTH, NUM_HEADS, FEED_FORWARD, NUM_LAYERS = 128, 4, 512, 2  # of transformer-b32
GRU_WIDTH = 64


def build(case: Case) -> nn.Module:
    """The network of `case`, its weights drawn from a fixed seed: inputs as `data.examples` has them to logits."""
    torch.manual_seed(0)
    match case.net:
        case "transformer":
            return Encoder()
        case "gru":
            return Recurrent()
    return _layers(case)


def _layers(case: Case) -> nn.Sequential:
    """Convolutions if there are any, each with ReLU and 2x2 max-pooling, then linear layers with ReLU."""
    layers: list[nn.Module] = []
    width, size = 1, PIXELS
    for channels in case.channels:
        layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        width, size = channels, size // 2
    layers.append(nn.Flatten())
    width = width * size * size if case.data == "images" else NUM_FEATURES
    for hidden in case.hidden:
        layers += [nn.Linear(width, hidden), nn.ReLU()]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, NUM_CLASSES))


class Encoder(nn.Module):
    """Embedded tokens plus learned positions, PyTorch's own encoder layers, the mean, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(NUM_TOKENS, WIDTH)
        self.positions = nn.Parameter(torch.randn(NUM_POSITIONS, WIDTH) * 0.02)
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    WIDTH, NUM_HEADS, FEED_FORWARD, dropout=0.0, batch_first=True, norm_first=True
                )
                for _ in range(NUM_LAYERS)
            )
        )
        self.output = nn.Linear(WIDTH, NUM_CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [n, 10] for tokens [n, 64]."""
        logits: Tensor = self.output(self.layers(self.embed(tokens) + self.positions).mean(dim=1))
        return logits


class Recurrent(nn.Module):
    """A GRU, its last step, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(NUM_CHANNELS, GRU_WIDTH, batch_first=True)
        self.output = nn.Linear(GRU_WIDTH, NUM_CLASSES)

    def forward(self, series: Tensor) -> Tensor:
        """Logits [n, 10] for series [n, 50, 16]."""
        hidden, _ = self.layer(series)
        logits: Tensor = self.output(hidden[:, -1])
        return logits
