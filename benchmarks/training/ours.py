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
from typing import Any

from numpy.typing import NDArray

from benchmarks.training.cases import CLIP_NORM, LEARNING_RATE, NUM_THREADS, NUM_TOKENS, Case, Work
from benchmarks.training.data import raw

Columns = Mapping[str, NDArray[Any]]


def run(case: Case, work: Work) -> list[float]:
    """Train; examples per second of each epoch."""
    return epoch_rates(case, raw(case, work.data), work.num_epochs, plan=work.plan)


def epoch_rates(
    case: Case,
    columns: Columns,
    num_epochs: int,
    *,
    plan: Path | None = None,
    augment: Mapping[str, Any] | None = None,
) -> list[float]:
    """Examples per second of each epoch of training on `columns`, of which `label` is the target.

    With a `plan` the cache lies beside it, where the search has left compiled code.
    """
    from corelane import app

    with scratch() as folder:
        cache = Path(folder, "cache") if plan is None else cache_beside(plan)
        config = config_of(case, num_epochs, cache=cache, plan=plan, augment=augment)
        finished = app.train(config, data=columns, runs=Path(folder, "runs"))
        log = (finished.directory / "logs" / "training.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in log]
    marks = [line["timestamp"] for line in lines if line["event"] in ("training_started", "epoch_finished")]
    times_s = [datetime.fromisoformat(mark).timestamp() for mark in marks]
    num_examples = len(columns["label"]) // case.batch_size * case.batch_size
    return [num_examples / (end - start) for start, end in pairwise(times_s)]


def config_of(
    case: Case, num_epochs: int, *, cache: Path, plan: Path | None = None, augment: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The configuration that a user would write for `case`; without `plan` a run looks for one."""
    columns = {"tokens": {"vocabulary": NUM_TOKENS}} if case.data == "tokens" else {}
    return {
        "name": "benchmark",
        # Peers train on every image and look at none while the clock runs.
        "data": {
            "target": "label",
            "task": "classification",
            "split": {"test": 0.0, "validation": 0.0},
            "columns": columns,
        },
        "model": case.model,
        "train": {
            "epochs": num_epochs,
            "batch_size": case.batch_size,
            "learning_rate": LEARNING_RATE,
            "clip_norm": CLIP_NORM,
            "scheduler": "constant",
            "augment": dict(augment or {}),
        },
        "machine": {"threads": NUM_THREADS, "cache": str(cache), "plan": "auto" if plan is None else str(plan)},
    }


def cache_beside(plan: Path) -> Path:
    """The cache directory of the runs that follow `plan`."""
    return plan.parent / "cache"


def scratch() -> AbstractContextManager[str]:
    """A folder for one run and its cache, gone afterwards."""
    return tempfile.TemporaryDirectory(prefix="corelane-benchmark-")
