"""`model.nets.resnet`: the residual network's shapes, and the preset's size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from corelane.data.pipeline import TensorSpec
from corelane.model.config import ModelConfig
from corelane.model.nets.build import build
from corelane.model.nets.resnet import Block, ResNet

PUBLISHED = 78_666  # all numbers of MLPerf Tiny's Keras model, by its summary
RUNNING_STATISTICS = 480  # mean and variance of 16 x 3 + 32 x 2 + 64 x 2 channels
BIASES_WITHOUT_EFFECT = 240  # before as many normalised channels


def test_the_preset_has_the_size_of_the_published_network() -> None:
    """`resnet-8` for 32x32x3 and ten classes: every parameter of MLPerf Tiny's that has an effect."""
    net = build(ModelConfig(preset="resnet-8"), {"image": TensorSpec("float32", (3, 32, 32))}, 10, seed=0)
    num_parameters = sum(parameter.numel() for parameter in net.parameters())
    assert num_parameters == PUBLISHED - RUNNING_STATISTICS - BIASES_WITHOUT_EFFECT == 77_946
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert sum(not isinstance(layer, nn.Conv2d) or layer.kernel_size == (3, 3) for layer in layers) == 8


@pytest.mark.parametrize(
    ("image", "channels", "num_blocks"),
    [((1, 28, 28), (16, 32, 64), 1), ((3, 29, 17), (8, 8), 2), ((1, 4, 4), (4, 8, 16), 1)],
)
def test_sides_are_halved_from_the_second_stage_on(
    image: tuple[int, int, int], channels: tuple[int, ...], num_blocks: int
) -> None:
    """Any image gives the logits of its rows; the last stage has halved it once for each stage but the first."""
    net = ResNet(image[0], channels, num_blocks, 5, dropout=0.1)
    x = torch.randn(2, *image)
    assert net(x).shape == (2, 5)
    sides = [-(-side // 2 ** (len(channels) - 1)) for side in image[1:]]
    assert net.blocks(net.stem(x)).shape == (2, channels[-1], *sides)


def test_a_block_passes_its_input_on() -> None:
    """With its convolutions at zero a block is the ReLU of what it is given."""
    block = Block(4, 4, stride=1)
    for part in block.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.zeros_(part.weight)
    x = torch.randn(3, 4, 6, 6)
    assert torch.equal(block.eval()(x), x.relu())
