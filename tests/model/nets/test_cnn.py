"""`model.nets.cnn`: the convolutional network's shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from corelane.model.nets.cnn import CNN


def benchmark_net() -> nn.Module:
    """cnn-b64, written out as the benchmarks define it."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def test_default_equals_the_benchmark_network() -> None:
    """With the weights of the benchmark's network it computes the same bits."""
    theirs, ours = benchmark_net(), CNN((1, 28, 28), (32, 64), (128,), 10)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.randn(3, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize(("image", "channels"), [((1, 8, 8), (4, 8, 16)), ((3, 29, 17), (4, 8)), ((1, 2, 5), (4,))])
def test_sides_are_halved_and_rounded_down(image: tuple[int, int, int], channels: tuple[int, ...]) -> None:
    """Any image that survives its halvings gives logits of the promised shape."""
    net = CNN(image, channels, (6,), 5, dropout=0.1, batch_norm=True)
    assert net(torch.randn(2, *image)).shape == (2, 5)


def test_batch_norm_replaces_the_bias() -> None:
    """With batch norm every convolution is followed by one and has no bias of its own."""
    blocks = list(CNN((1, 8, 8), (4, 8), (), 2, batch_norm=True).blocks)
    convolutions = [layer for layer in blocks if isinstance(layer, nn.Conv2d)]
    assert all(layer.bias is None for layer in convolutions)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in blocks) == 2


def test_no_hidden_layer_leaves_one_linear_map() -> None:
    """`hidden: []` ends the network with one linear layer and no activation."""
    layers = list(CNN((1, 8, 8), (4,), (), 3).layers)
    assert [type(layer) for layer in layers] == [nn.Linear]
