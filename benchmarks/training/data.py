"""The data of each case: raw, as a user of Corelane hands it over, and ready for a network, as peers train on it.

Images are Fashion-MNIST; tables, texts and series are drawn from a fixed seed, because the speed of training does not
depend on what they say. NumPy only.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import BenchmarkError
from benchmarks.training.cases import (
    NUM_CHANNELS,
    NUM_CLASSES,
    NUM_FEATURES,
    NUM_POSITIONS,
    NUM_STEPS,
    NUM_TOKENS,
    Case,
)

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
NUM_IMAGES = 20_000
PIXEL_MEAN, PIXEL_STD = 0.286, 0.353  # of Fashion-MNIST's training pixels, scaled to 0..1
NUM_ROWS = 50_000
NUM_TEXTS, NUM_SERIES = 2048, 8192  # epochs of a few seconds
SEED = 0


class Examples(NamedTuple):
    """What a network takes, [n, ...] of float32 or, for tokens, int64; and the classes, int64 [n]."""

    inputs: NDArray[Any]
    labels: NDArray[np.int64]


def examples(case: Case, folder: Path) -> Examples:
    """What peers train `case` on. `folder` holds Fashion-MNIST."""
    return _EXAMPLES[case.data](folder)


def whole_batches(case: Case, folder: Path) -> Examples:
    """`examples` without the last short batch, for peers that cannot drop it."""
    inputs, labels = examples(case, folder)
    num_rows = len(labels) // case.batch_size * case.batch_size
    return Examples(inputs[:num_rows], labels[:num_rows])


def raw(case: Case, folder: Path) -> dict[str, NDArray[Any]]:
    """The columns that Corelane is handed, `label` the target: uint8 images, a column for each number of a table."""
    if case.data == "images":
        images, labels = fashion_mnist(folder)
        return {"image": images, "label": labels}
    inputs, labels = examples(case, folder)
    if case.data == "table":
        return {**{f"feature_{place}": column for place, column in enumerate(inputs.T)}, "label": labels}
    return {case.data: inputs, "label": labels}


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


def _standardised(folder: Path) -> Examples:
    """Images as peers train on them: float32 [n, 1, 28, 28], mean 0 and deviation 1."""
    images, labels = fashion_mnist(folder)
    scaled = (images.astype(np.float32) / np.float32(255.0) - np.float32(PIXEL_MEAN)) / np.float32(PIXEL_STD)
    return Examples(scaled[:, None], labels)


def _table(folder: Path) -> Examples:
    """Normal numbers, float32 [n, 32]; the class is the largest of ten random sums of them."""
    del folder
    random = np.random.default_rng(SEED)
    rows = random.standard_normal((NUM_ROWS, NUM_FEATURES), dtype=np.float32)
    return Examples(rows, _classes(rows, random))


def _tokens(folder: Path) -> Examples:
    """Even tokens, int64 [n, 64]; the class is the last digit of the first one."""
    del folder
    tokens = np.random.default_rng(SEED).integers(0, NUM_TOKENS, (NUM_TEXTS, NUM_POSITIONS))
    return Examples(tokens, tokens[:, 0] % NUM_CLASSES)


def _series(folder: Path) -> Examples:
    """Normal numbers, float32 [n, 50, 16]; the class is the largest of ten random sums of their means."""
    del folder
    random = np.random.default_rng(SEED)
    series = random.standard_normal((NUM_SERIES, NUM_STEPS, NUM_CHANNELS), dtype=np.float32)
    return Examples(series, _classes(series.mean(axis=1), random))


def _classes(rows: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.int64]:
    return (rows @ random.standard_normal((rows.shape[1], NUM_CLASSES), dtype=np.float32)).argmax(axis=1)


_EXAMPLES: Mapping[str, Callable[[Path], Examples]] = {
    "images": _standardised,
    "table": _table,
    "tokens": _tokens,
    "series": _series,
}
