"""The residual convolutional network for images: stages of blocks that add to what they are given.

Shapes, for n images of c channels and h x w pixels, channels [16, 32, 64], one block a stage and k outputs:

    image      [n, c, h, w]
    stem       3x3 convolution, batch norm, ReLU                     [n, 16, h, w]
    stage 1    block: y = x + f(x), ReLU                             [n, 16, h, w]
    stage 2    its first block halves both sides                     [n, 32, h/2, w/2]
    stage 3    the same                                              [n, 64, h/4, w/4]
    pool       mean over all pixels                                  [n, 64]
    dropout, linear                                                  [n, k]

f is 3x3 convolution, batch norm, ReLU, 3x3 convolution, batch norm; halves are rounded up. Where a block changes the
shape, x goes through a 1x1 convolution on its way (without normalisation, as in the preset). He et al., "Deep residual
learning for image recognition", CVPR (2016). The preset `resnet-8` is the image classification network of MLPerf Tiny:
Banbury et al., "MLPerf Tiny benchmark", NeurIPS Datasets and Benchmarks (2021); of its 78,666 numbers for 32x32x3 and
ten classes 480 are running statistics, and 240 are biases that the normalisation takes out again: 77,946 are left.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import relu


class ResNet(nn.Module):
    """One stage of `num_blocks` blocks per entry of `channels`; every stage but the first halves the image."""

    def __init__(
        self, depth: int, channels: Sequence[int], num_blocks: int, num_outputs: int, *, dropout: float = 0.0
    ) -> None:
        """`depth` is the image's number of channels."""
        super().__init__()
        self.stem = nn.Sequential(*_convolution(depth, channels[0], stride=1), nn.ReLU())
        blocks: list[nn.Module] = []
        before = channels[0]
        for stage, width in enumerate(channels):
            for index in range(num_blocks):
                blocks.append(Block(before, width, stride=2 if stage and not index else 1))
                before = width
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.output = nn.Linear(before, num_outputs)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Logits [n, num_outputs] for `image` [n, c, h, w]."""
        pooled = self.blocks(self.stem(image)).mean(dim=(2, 3))
        logits: Tensor = self.output(self.dropout(pooled))
        return logits


class Block(nn.Module):
    """y = relu(x' + f(x)), x' being x, or a 1x1 convolution of it where the shape changes."""

    def __init__(self, depth: int, next_depth: int, *, stride: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            *_convolution(depth, next_depth, stride=stride), nn.ReLU(), *_convolution(next_depth, next_depth, stride=1)
        )
        is_same = stride == 1 and depth == next_depth
        self.shortcut = nn.Identity() if is_same else nn.Conv2d(depth, next_depth, kernel_size=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to [n, c', h', w']."""
        return relu(self.shortcut(x) + self.change(x))


def _convolution(depth: int, next_depth: int, *, stride: int) -> list[nn.Module]:
    # The normalisation has its own shift, so the convolution's would be a parameter without effect.
    convolution = nn.Conv2d(depth, next_depth, kernel_size=3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(next_depth)]


def _initialise(module: nn.Module) -> None:
    """Normal with the deviation that keeps a ReLU network's activations in size (He et al., ICCV 2015)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
