"""The cases' networks in plain PyTorch, for the peers that are written in it."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.training.cases import NUM_CLASSES, Case

PIXELS = 28


def build(case: Case) -> nn.Sequential:
    """The network of `case`: float32 [n, 1, 28, 28] to logits [n, 10]."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    width, size = 1, PIXELS
    for channels in case.channels:
        layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        width, size = channels, size // 2
    layers.append(nn.Flatten())
    width *= size * size
    for hidden in case.hidden:
        layers += [nn.Linear(width, hidden), nn.ReLU()]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, NUM_CLASSES))
