"""Packages at work offline: load one, predict a data set into a file, or score it against the truth. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from corelane.app.planned import chosen_for
from corelane.app.serving import resolve_package
from corelane.app.sources import open_source, source_of
from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import ConfigError, DataError
from corelane.core.types import Array
from corelane.data.sinks.files import open_sink
from corelane.data.source import DataSource
from corelane.data.target import TargetEncoder
from corelane.machine.cpu import Machine
from corelane.model.batch import REJECTED, OptimizedBatchProcessor
from corelane.model.candidate import SAFE
from corelane.model.decode import PROBABILITIES, VALUE
from corelane.model.label_scores import BinarySums, LabelSums, logits_of
from corelane.model.package import ModelPackage
from corelane.model.predictor import Predictor
from corelane.model.scores import ConfusionSums, ErrorSums, Sums

BATCH_ROWS = 256  # large enough to hide the cost of a call, small enough that two threads' batches stay in L2


def load(path: Path | str) -> Predictor:
    """Verify and open the package at `path` (or the newest version in it) for prediction in this process.

    `predict_rows` takes a list of dicts by column name. Raises `BundleError`, `GoldenError`, `ConfigError`.
    """
    package = ModelPackage.load(resolve_package(path))
    predictor = package.predictor()
    package.check_golden(predictor)
    return predictor


def predict(
    package: Path | str, data: str, output: Path | str, *, labels: str | None = None, clock: Clock | None = None
) -> dict[str, Any]:
    """Answer every row of `data` in order into the file `output` (.parquet, .csv or .jsonl).

    Rows that the schema rejects stay in place, with the reason instead of an answer. Returns how many rows, how many of
    them rejected, and rows per second. Raises `ConfigError`, `DataError`, `BundleError`, `DiskFullError`.
    """
    if _is_within(Path(output), Path(data)):
        raise ConfigError(f"the output must not be the input or lie in it, got {str(output)!r}; choose another place")
    clock = clock or SystemClock()
    started_s = clock.monotonic()
    num_rows = num_rejected = 0
    with _processor(package) as processor, open_sink(Path(output)) as sink:
        for rows in processor.score(_source(data, labels).batches()):
            sink.write(rows)
            num_rows += rows.num_rows
            num_rejected += rows.num_rows - rows.column(REJECTED).null_count
        if not num_rows:
            raise DataError(f"the input must have at least one row, got none in {data}; check the file")
    elapsed_s = clock.monotonic() - started_s
    return {"output": str(output), "rows": num_rows, "rejected": num_rejected, "rows_per_s": num_rows / elapsed_s}


def evaluate(package: Path | str, data: str, *, labels: str | None = None) -> dict[str, Any]:
    """Score the package on `data`, whose rows hold their target.

    Returns how many rows were scored and how many rejected, then the qualities of the task (`model/scores.py`,
    `model/label_scores.py`). A row whose label the model does not know counts as wrong.

    Raises `ConfigError`, `DataError`, `BundleError`.
    """
    num_rows = num_rejected = 0
    with _processor(package) as processor:
        target = processor.predictor.pipeline.target
        sums = _sums_for(target)
        for scored in processor.run(_source(data, labels).batches(), needs_target=True):
            rows = scored.checked.rows
            num_rejected += scored.num_rejected
            if rows.num_rows:
                num_rows += rows.num_rows
                sums.add(target.encode(rows), _encoded(scored.answers, target))
    if not num_rows:
        raise DataError(f"the input must have at least one valid row, got none in {data}; check the file")
    return {"rows": num_rows, "rejected": num_rejected, **sums.qualities()}


def _is_within(path: Path, place: Path) -> bool:
    return "://" not in str(place) and path.resolve().is_relative_to(place.resolve())


def _sums_for(target: TargetEncoder) -> Sums:
    match target.task:
        case "binary":
            return BinarySums()
        case "multi_class":
            return ConfusionSums(target.num_outputs)
        case "multi_label":
            return LabelSums(target.num_outputs)
        case "regression":
            return ErrorSums(target.mean, target.std)


def _encoded(answers: Mapping[str, Array], target: TargetEncoder) -> Array:
    """Answers in the terms of the sums: logits [n] or [n, k], class indices [n], or standardised values [n]."""
    match target.task:
        case "binary":
            chances = answers[PROBABILITIES].astype(np.float64)
            with np.errstate(divide="ignore"):
                return np.asarray(np.log(chances[:, 1]) - np.log(chances[:, 0]))
        case "multi_class":
            return np.asarray(answers[PROBABILITIES].argmax(axis=1))
        case "multi_label":
            return logits_of(answers[PROBABILITIES])
        case "regression":
            return np.asarray((answers[VALUE] - target.mean) / target.std)


@contextmanager
def _processor(package: Path | str) -> Iterator[OptimizedBatchProcessor]:
    """What scores with `package`: as its plan says, else with the float32 graph in a batch on each thread."""
    opened = ModelPackage.load(resolve_package(package))
    candidate = chosen_for(opened, "throughput")
    if candidate is SAFE:
        candidate = replace(SAFE, batch=BATCH_ROWS, streams=Machine.detect().thread_budget)
    with opened.predictor(candidate) as predictor:
        opened.check_golden(predictor, graph=candidate.graph)
        with OptimizedBatchProcessor(candidate.batch, candidate.streams, predictor=predictor) as processor:
            yield processor


def _source(data: str, labels: str | None) -> DataSource:
    return open_source(source_of(data, labels), strength="stat")  # nobody resumes from it
