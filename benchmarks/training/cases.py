"""What is trained: each case's network, batch size and data, the same for every engine. NumPy only, so that any peer's
environment can read it; how a framework builds the network is the peer's own matter.

All cases: cross-entropy, AdamW 1e-3, gradient norm clipped at 1.0, shuffled each epoch, the last short batch dropped,
two threads; the figure is the fastest epoch after the first.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import BenchmarkError, Quantity

NUM_THREADS = 2
LEARNING_RATE = 1e-3
CLIP_NORM = 1.0
NUM_CLASSES = 10
RATE = Quantity("examples/s", is_higher_better=True)
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
NUM_IMAGES = 20_000
PIXEL_MEAN, PIXEL_STD = 0.286, 0.353  # of Fashion-MNIST's training pixels, scaled to 0..1


@dataclass(frozen=True, slots=True)
class Case:
    """One network on one data set. `net` is `mlp` or `cnn`; `hidden` and `channels` as in our `model` section."""

    name: str
    batch_size: int
    net: str
    hidden: tuple[int, ...]
    channels: tuple[int, ...] = ()


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("mlp-b64", batch_size=64, net="mlp", hidden=(256, 256)),
        Case("cnn-b64", batch_size=64, net="cnn", hidden=(128,), channels=(32, 64)),
    )
}


def fashion_mnist(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The first 20,000 training images, uint8 [n, 28, 28], and their labels, int64 [n]."""
    for name in (IMAGES, LABELS):
        if not (folder / name).is_file():
            raise BenchmarkError(
                f"Fashion-MNIST must lie in {str(folder)!r}, got no {name}; "
                "apt-get install dataset-fashion-mnist, or name its folder with --data"
            )
    images = np.frombuffer(gzip.decompress((folder / IMAGES).read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(gzip.decompress((folder / LABELS).read_bytes()), np.uint8, offset=8)
    return images[:NUM_IMAGES], labels[:NUM_IMAGES].astype(np.int64)


def standardised(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The same images as peers train on them: float32 [n, 1, 28, 28], mean 0 and deviation 1."""
    images, labels = fashion_mnist(folder)
    scaled = (images.astype(np.float32) / np.float32(255.0) - np.float32(PIXEL_MEAN)) / np.float32(PIXEL_STD)
    return scaled[:, None], labels
