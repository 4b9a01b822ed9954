"""Our side: `corelane.app.train` as a user calls it, raw columns in, with the fitted pipeline, prepared arrays,
checkpoints, log and progress of any run. The rates are those between the epochs' lines of the run's own log.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from benchmarks.training.cases import CLIP_NORM, LEARNING_RATE, NUM_THREADS, Case, Work
from benchmarks.training.data import raw

if TYPE_CHECKING:
    from torch import nn

Columns = Mapping[str, NDArray[Any]]


def run(case: Case, work: Work) -> list[float]:
    """Train; examples per second of each epoch."""
    return epoch_rates(case, raw(case, work.data), work.num_epochs)


def epoch_rates(case: Case, columns: Columns, num_epochs: int, augment: Mapping[str, Any] | None = None) -> list[float]:
    """Examples per second of each epoch of training on `columns`, of which `label` is the target."""
    from corelane import app

    with scratch() as folder:
        config = config_of(case, num_epochs, cache=Path(folder, "cache"), augment=augment)
        finished = app.train(config, data=columns, model=own_module(case), runs=Path(folder, "runs"))
        log = (finished.directory / "logs" / "training.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in log]
    marks = [line["timestamp"] for line in lines if line["event"] in ("training_started", "epoch_finished")]
    times_s = [datetime.fromisoformat(mark).timestamp() for mark in marks]
    num_examples = len(columns["label"]) // case.batch_size * case.batch_size
    return [num_examples / (end - start) for start, end in pairwise(times_s)]


def config_of(case: Case, num_epochs: int, cache: Path, augment: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The configuration that a user would write for `case`."""
    model: dict[str, Any] = {"net": case.net}
    if case.hidden:
        model["hidden"] = list(case.hidden)
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
            "augment": dict(augment or {}),
        },
        "machine": {"threads": NUM_THREADS, "cache": str(cache)},
    }


def scratch() -> AbstractContextManager[str]:
    """A folder for one run and its cache, gone afterwards."""
    return tempfile.TemporaryDirectory(prefix="corelane-benchmark-")


def own_module(case: Case) -> nn.Module | None:
    """The network where `model.net` does not name it yet."""
    if case.net not in ("transformer", "gru"):
        return None
    import torch
    from torch import nn

    from benchmarks.training.torch_nets import build

    class Tokens(nn.Module):
        """Takes tokens as the pipeline scales them: by their mean and deviation."""

        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, scaled: torch.Tensor) -> torch.Tensor:
            return self.net((scaled * 288.6 + 499.5).round().long().clamp(0, 999))

    return Tokens(build(case)) if case.net == "transformer" else build(case)
