"""`model.nets.mlp`: the perceptron's shapes."""

from __future__ import annotations

import torch
from torch import nn

from corelane.model.nets.mlp import MLP


def test_default_layers_are_those_of_the_benchmark() -> None:
    """784-256-256-10 with ReLU between the layers and none after the last."""
    layers = list(MLP(784, (256, 256), 10).layers)
    kinds = [type(layer) for layer in layers]
    assert kinds == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    widths = [(layer.in_features, layer.out_features) for layer in layers if isinstance(layer, nn.Linear)]
    assert widths == [(784, 256), (256, 256), (256, 10)]


def test_any_inputs_are_flattened_and_joined_in_order() -> None:
    """An image and a row of numbers become one vector, the first input first."""
    image, numbers = torch.randn(3, 1, 2, 2), torch.randn(3, 5)
    net = MLP(9, (), 2)
    expected = net.layers(torch.cat([image.reshape(3, 4), numbers], dim=1))
    assert torch.equal(net(image, numbers), expected)


def test_dropout_acts_in_training_only() -> None:
    """With dropout, two training passes differ and two evaluation passes are equal."""
    torch.manual_seed(0)
    net, x = MLP(4, (64,), 2, dropout=0.5), torch.randn(2, 4)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))
