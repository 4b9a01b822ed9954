"""Packages to measure with: networks with the weights they start with, and Fashion-MNIST's CNN, trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inference.cases import INT8_EPOCHS, NUM_CLASSES, NUM_FEATURES, Net
from benchmarks.training.data import fashion_mnist


def untrained(net: Net, folder: Path) -> Path:
    """The package of `net` on random rows, after one step of training: what it answers is not looked at."""
    random = np.random.default_rng(0)
    columns: dict[str, Any] = {"label": random.integers(0, NUM_CLASSES, 600)}
    if net.is_of_images:
        columns["image"] = random.integers(0, 256, (600, 28, 28, 1), dtype=np.uint8)
    else:
        values = random.normal(size=(600, NUM_FEATURES))
        columns |= {f"x{index}": values[:, index] for index in range(NUM_FEATURES)}
    return _packaged(dict(net.model), columns, folder, num_epochs=1)


def fashion_cnn(data: Path, folder: Path) -> Path:
    """The CNN of `cnn-b64`, trained for a few epochs on the images that `cnn-b64` trains on."""
    images, labels = fashion_mnist(data)
    columns = {"image": images, "label": labels}
    return _packaged({"net": "cnn", "channels": [32, 64], "hidden": [128]}, columns, folder, num_epochs=INT8_EPOCHS)


def _packaged(model: dict[str, Any], columns: dict[str, Any], folder: Path, *, num_epochs: int) -> Path:
    from corelane import app

    config = {
        "name": "benchmark",
        "data": {"target": "label", "task": "multi_class", "split": {"test": 0.0, "validation": 0.1}},
        "model": model,
        "train": {"epochs": num_epochs, "batch_size": 128},
        "machine": {"cache": str(folder / "cache")},
    }
    run = app.train(config, data=columns, runs=folder / "runs", quiet=True)
    return app.package(run, directory=folder / "packages")
