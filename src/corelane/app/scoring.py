"""Packages at work offline: load one, predict a data set into a file or table, score it against the truth. No torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from corelane.app.package_paths import resolve_package
from corelane.app.planned import chosen_for
from corelane.app.source_places import expand
from corelane.app.sources import open_source, source_of
from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import ConfigError, DataError
from corelane.core.types import Array
from corelane.data.batch import Cursor
from corelane.data.sink import RowSink
from corelane.data.sinks.files import open_file_sink
from corelane.data.sinks.parts import KeptRows
from corelane.data.source import DataSource
from corelane.data.sources.database.snapshot import without_secrets
from corelane.data.target import TargetEncoder
from corelane.machine.cpu import Machine
from corelane.model.batch import REJECTED, OptimizedBatchProcessor
from corelane.model.candidate import SAFE
from corelane.model.decode import PROBABILITIES, VALUE
from corelane.model.label_scores import BinarySums, LabelSums, logits_of
from corelane.model.package import ModelPackage
from corelane.model.predictor import Predictor
from corelane.model.scores import ConfusionSums, ErrorSums, Sums


@dataclass(frozen=True, slots=True)
class Answered:
    """How many rows have a line in the output, how many of them a reason instead of an answer, and how many were kept
    from an earlier call.
    """

    rows: int
    rejected: int
    kept: int = 0


@dataclass(frozen=True, slots=True)
class _Scorer:
    processor: OptimizedBatchProcessor
    package: str
    plan: str


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
    package: Path | str,
    data: str,
    output: Path | str,
    *,
    labels: str | None = None,
    resume: bool = False,
    on_rows: Callable[[int], None] = lambda _: None,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """Answer every row of `data` in order into `output`: a file (.parquet, .csv or .jsonl) or a new table of a
    database, written as its URL with the table behind `#`.

    Rows that the schema rejects stay in place, with the reason instead of an answer. `on_rows` is called with how many
    rows are answered, every few thousand. With `resume` answers are kept in the folder `<output>.parts` until `output`
    is whole, and a second call after one that was stopped goes on with them.

    Returns how many rows, how many of them rejected, how many were kept from an earlier call, and rows per second of
    this one. Raises `ConfigError`, `DataError`, `BundleError`, `DiskFullError`, `SinkWriteError`.
    """
    if _is_within(str(output), data):
        raise ConfigError(f"the output must not be the input or lie in it, got {str(output)!r}; choose another place")
    if resume and "://" in str(output):
        raise ConfigError(f"--resume must be with a file as output, got {without_secrets(str(output))!r}; name a file")
    clock = clock or SystemClock()
    started_s = clock.monotonic()
    source = _source(data, labels)
    with _scorer(package) as scorer:
        if resume:
            done = _answer_and_keep(scorer, source, Path(output), on_rows, data=data)
        else:
            with _sink(str(output)) as sink:
                done = _written(scorer.processor.score(source.batches()), sink, on_rows, data=data)
    elapsed_s = clock.monotonic() - started_s
    return {"output": without_secrets(str(output)), **asdict(done), "rows_per_s": (done.rows - done.kept) / elapsed_s}


def evaluate(package: Path | str, data: str, *, labels: str | None = None) -> dict[str, Any]:
    """Score the package on `data`, whose rows hold their target.

    Returns how many rows were scored and how many rejected, then the qualities of the task (`model/scores.py`,
    `model/label_scores.py`). A row whose label the model does not know counts as wrong.

    Raises `ConfigError`, `DataError`, `BundleError`.
    """
    num_rows = num_rejected = 0
    with _scorer(package) as scorer:
        processor = scorer.processor
        target = processor.predictor.pipeline.target
        if target is None:
            raise ConfigError(
                f"the package must be one that was trained here, got {package}, whose network was imported: what its "
                "answers should be is not known; use `corelane predict`"
            )
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


def _sink(output: str) -> AbstractContextManager[RowSink]:
    if "://" not in output:
        return open_file_sink(Path(output))
    from corelane.data.sinks.database import open_table_sink  # noqa: PLC0415 - drivers only where one is written

    return open_table_sink(expand(output, os.environ, "the output"))


def _written(
    answers: Iterable[pa.RecordBatch], sink: RowSink, on_rows: Callable[[int], None], *, data: str
) -> Answered:
    num_rows = num_rejected = 0
    for rows in answers:
        sink.write(rows)
        num_rows += rows.num_rows
        num_rejected += rows.num_rows - rows.column(REJECTED).null_count
        on_rows(num_rows)
    if not num_rows:
        raise DataError(f"the input must have at least one row, got none in {without_secrets(data)}; check it")
    return Answered(num_rows, num_rejected)


def _answer_and_keep(
    scorer: _Scorer, source: DataSource, output: Path, on_rows: Callable[[int], None], *, data: str
) -> Answered:
    """The same over `KeptRows`, from the first row that has no answer yet."""
    with open_file_sink(output) as sink:
        digest = source.fingerprint().digest
        made_of = {"package": scorer.package, "data": digest, "plan": scorer.plan}
        kept = KeptRows(output.with_name(f"{output.name}.parts"), made_of)
        num_kept = kept.num_rows
        start = Cursor(source.name, digest, num_kept)
        for num_rows in kept.keep(scorer.processor.score(source.batches(start))):
            on_rows(num_rows)
        done = _written(kept.batches(), sink, lambda _: None, data=data)
    kept.discard()
    return replace(done, kept=num_kept)


def _is_within(path: str, place: str) -> bool:
    return "://" not in path + place and Path(path).resolve().is_relative_to(Path(place).resolve())


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
def _scorer(package: Path | str) -> Iterator[_Scorer]:
    """What scores with `package`: as its plan says, else with the float32 graph in a batch on each thread."""
    opened = ModelPackage.load(resolve_package(package))
    candidate = chosen_for(opened, "throughput")
    if candidate is SAFE:
        candidate = replace(SAFE, batch=BATCH_ROWS, streams=Machine.detect().thread_budget)
    with opened.predictor(candidate) as predictor:
        opened.check_golden(predictor, graph=candidate.graph)
        with OptimizedBatchProcessor(
            candidate.batch, candidate.streams, predictor=predictor, outputs=opened.signature.outputs
        ) as processor:
            yield _Scorer(processor, opened.digest, str(candidate))


def _source(data: str, labels: str | None) -> DataSource:
    return open_source(source_of(data, labels), strength="stat")  # nobody resumes from it
