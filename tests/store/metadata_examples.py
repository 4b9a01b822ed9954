"""Records for the tests of the metadata store, and a store that runs in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from corelane.store.metadata_records import (
    Checkpoint,
    Dataset,
    Metric,
    PackageRecord,
    Record,
    RunCheckpoints,
    RunMetrics,
    RunRecord,
    Serving,
)

PACKAGE = "e" * 64


def key_of(number: int) -> str:
    return f"{number:032x}"


def dataset(**values: Any) -> Dataset:
    facts: dict[str, Any] = {"strength": "content", "digest": "ab", "source": {"type": "memory"}, "schema": {"x": 1}}
    return Dataset(**{**facts, **values})


def run(number: int = 1, **values: Any) -> RunRecord:
    facts: dict[str, Any] = {
        "key": key_of(number),
        "name": f"digits-{number:03d}",
        "title": "digits",
        "directory": f"/runs/digits-{number:03d}",
        "host": "here",
        "status": "finished",
        "config_digest": "0" * 64,
        "config": {"train": {"epochs": number}},
        "started_s": float(number),
        "seen_s": 100.0,
        "finished_s": number + 5.0,
        "seed": 2**63 - 1,
        "dataset": dataset().key,
        "seconds": {"data": 0.1},
        "metrics": {"validation_loss": 1 / 3},
    }
    return RunRecord(**{**facts, **values})


def package(run_key: str | None = None, **values: Any) -> PackageRecord:
    facts: dict[str, Any] = {
        "digest": PACKAGE,
        "name": "digits",
        "version": 1,
        "directory": "/packages/digits/1",
        "host": "here",
        "task": "classification",
        "created": "2026-01-01T00:00:00Z",
        "num_bytes": 2**40,
        "config_digest": "0" * 64,
        "data_digest": "ab",
        "metrics": {"test_accuracy": 0.9},
        "run": run_key,
        "checkpoint": "f" * 64,
    }
    return PackageRecord(**{**facts, **values})


def everything(number: int = 1) -> list[Record]:
    """A run with all that belongs to it, in the wrong order."""
    key = key_of(number)
    return [
        Serving(PACKAGE, "digits", 1, "http://127.0.0.1:8000", "here", 12, 50.0),
        package(key),
        RunCheckpoints(key, [Checkpoint(5, "f" * 64, 1000, is_best=True)]),
        RunMetrics(key, [Metric("loss", step, 0, step / 7) for step in range(10)]),
        run(number),
        dataset(),
    ]


def in_process(program: str, *arguments: str) -> subprocess.Popen[str]:
    """A real process that runs `program`, with the names of this module at hand; it prints, and is fed by stdin."""
    start = (
        "import sys\nfrom corelane.store.metadata import MetadataStore\nfrom tests.store.metadata_examples import *\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", start + program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
