"""The convolutional network for images: blocks of convolution and pooling, then linear layers.

Shapes, for n images of c channels and h x w pixels, channels [32, 64], hidden [128] and k outputs:

    image       [n, c, h, w]
    block 1     3x3 convolution (padding 1), batch norm if asked, ReLU, 2x2 max-pool   [n, 32, h/2, w/2]
    block 2     the same                                                               [n, 64, h/4, w/4]
    flatten                                                                            [n, 64 * h/4 * w/4]
    dropout, linear, ReLU                                                              [n, 128]
    dropout, linear                                                                    [n, k]

Halves are rounded down. With its defaults this is the `cnn-b64` network of the benchmarks. The design is that of
LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 86 (1998), with ReLU and
max-pooling; batch norm: Ioffe and Szegedy, "Batch normalization", ICML (2015).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class CNN(nn.Module):
    """One block per entry of `channels`, then one linear layer per entry of `hidden`, then the output layer."""

    def __init__(
        self,
        image: tuple[int, int, int],
        channels: Sequence[int],
        hidden: Sequence[int],
        num_outputs: int,
        *,
        dropout: float = 0.0,
        batch_norm: bool = False,
    ) -> None:
        """`image` is (channels, height, width); both sides must survive a halving per block."""
        super().__init__()
        depth, height, width = image
        blocks: list[nn.Module] = []
        for next_depth in channels:
            blocks += _block(depth, next_depth, batch_norm)
            depth, height, width = next_depth, height // 2, width // 2
        self.blocks = nn.Sequential(*blocks)
        self.layers = nn.Sequential(*_layers([depth * height * width, *hidden], num_outputs, dropout))

    def forward(self, image: Tensor) -> Tensor:
        """Logits [n, num_outputs] for `image` [n, c, h, w]."""
        logits: Tensor = self.layers(self.blocks(image).flatten(1))
        return logits


def _block(depth: int, next_depth: int, batch_norm: bool) -> list[nn.Module]:
    # The normalisation has its own shift, so the convolution's would be a parameter without effect.
    convolution = nn.Conv2d(depth, next_depth, kernel_size=3, padding=1, bias=not batch_norm)
    normalisation = [nn.BatchNorm2d(next_depth)] if batch_norm else []
    return [convolution, *normalisation, nn.ReLU(), nn.MaxPool2d(2)]


def _layers(widths: Sequence[int], num_outputs: int, dropout: float) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width, next_width in zip(widths, [*widths[1:], num_outputs], strict=True):
        if dropout:
            layers.append(nn.Dropout(dropout))
        layers += [nn.Linear(width, next_width), nn.ReLU()]
    return layers[:-1]  # the output layer has no activation
