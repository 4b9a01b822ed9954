"""Our side: `corelane.app.train` as a user calls it, raw images in, with the fitted pipeline, prepared arrays,
checkpoints, log and progress of any run. The rates are those between the epochs' lines of the run's own log.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.training.cases import CLIP_NORM, LEARNING_RATE, NUM_THREADS, Case, fashion_mnist


def run(case: Case, data: Path, num_epochs: int) -> list[float]:
    """Train `num_epochs`; examples per second of each."""
    images, labels = fashion_mnist(data)
    return epoch_rates(case, images, labels, num_epochs, augment={})


def epoch_rates(
    case: Case, images: NDArray[np.uint8], labels: NDArray[np.int64], num_epochs: int, augment: Mapping[str, Any]
) -> list[float]:
    """Examples per second of each epoch of training on uint8 `images` [n, ...] and their labels [n]."""
    from corelane import app

    with tempfile.TemporaryDirectory() as folder:
        config = _config(case, num_epochs, augment, cache=Path(folder, "cache"))
        finished = app.train(config, data={"image": images, "label": labels}, runs=Path(folder, "runs"))
        log = (finished.directory / "logs" / "training.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in log]
    marks = [line["timestamp"] for line in lines if line["event"] in ("training_started", "epoch_finished")]
    times_s = [datetime.fromisoformat(mark).timestamp() for mark in marks]
    num_examples = len(images) // case.batch_size * case.batch_size
    return [num_examples / (end - start) for start, end in pairwise(times_s)]


def _config(case: Case, num_epochs: int, augment: Mapping[str, Any], cache: Path) -> dict[str, Any]:
    model: dict[str, Any] = {"net": case.net, "hidden": list(case.hidden)}
    if case.channels:
        model["channels"] = list(case.channels)
    return {
        "name": "benchmark",
        # Peers train on every image and look at none while the clock runs.
        "data": {"target": "label", "task": "classification", "split": {"test": 0.0, "validation": 0.0}},
        "model": model,
        "train": {
            "epochs": num_epochs,
            "batch_size": case.batch_size,
            "learning_rate": LEARNING_RATE,
            "clip_norm": CLIP_NORM,
            "scheduler": "constant",
            "augment": dict(augment),
        },
        "machine": {"threads": NUM_THREADS, "cache": str(cache)},
    }
