"""The two passes over the data that preparing takes: one checks, counts and fits, the other transforms and keeps.

Both stream: what is in memory at a time is a few pieces of rows, whatever the size of the data. Where the arrays go is
the caller's choice of `Appender`; caching, and what happens when the disk is full, is `prepare.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from corelane.core.errors import DataError
from corelane.core.types import Array, IntArray
from corelane.data.appender import Appender
from corelane.data.checked import CheckedRows, check_source, rows_per_piece
from corelane.data.config import DataConfig
from corelane.data.digest import regroup
from corelane.data.pipeline import Pipeline, UnfittedPipeline
from corelane.data.prepared import SAMPLES, array_file
from corelane.data.processor import CPUDataProcessor
from corelane.data.quarantine import Quarantine, RefusedRow, describe_row
from corelane.data.sample import RowSample
from corelane.data.source import DataSource
from corelane.data.split import PARTS, TEST, TRAIN, part_of

MakeAppender: TypeAlias = Callable[[str, "np.dtype[Any]", tuple[int, ...], int], Appender]
"""(file name, dtype, row shape, most rows) to where one array of one part is kept."""

_MAX_ARRAY_BYTES = 8 << 20  # transformed at a time: a piece of categories is small, as one-hot rows it may be gigabytes
_SAMPLE_ROWS = 1000
_MAX_SAMPLE_BYTES = 64 << 20  # large images: fewer rows, so that three samples fit in memory


@dataclass(frozen=True)
class Job:
    """What is prepared: the sources, what was configured, and the pipeline to fit."""

    source: DataSource
    test_source: DataSource | None
    config: DataConfig
    unfitted: UnfittedPipeline
    seed: int
    processor: CPUDataProcessor

    def parts_of(self, positions: IntArray) -> Array:
        """The part of the source's rows at `positions` [n]: int8 [n]."""
        return part_of(self.seed, positions, self.config.split, has_test_source=self.test_source is not None)


@dataclass(frozen=True)
class Survey:
    """What the first pass found: the fitted pipeline, checked rows per part (train, validation, test), rows in all."""

    pipeline: Pipeline
    num_rows: tuple[int, int, int]
    num_read: int

    @property
    def num_bytes(self) -> int:
        """Size of all arrays of the prepared data, in bytes."""
        return sum(self.num_rows) * _row_bytes(self.pipeline)


def survey(job: Job, quarantine: Quarantine) -> Survey:
    """Read everything once: refuse, count, and fit on the training rows.

    Raises `DataError` when more than `max_rejected` of the rows are refused, or nothing is left to train on.
    """
    schema = job.unfitted.schema
    counts = np.zeros(len(PARTS), dtype=np.int64)

    def training_rows() -> Iterator[pa.RecordBatch]:
        for piece in check_source(job.source, "data", schema, quarantine.add):
            parts = job.parts_of(piece.positions)
            counts[:] += np.bincount(parts, minlength=len(PARTS))
            yield piece.rows.filter(pa.array(parts == TRAIN))
        if job.test_source is not None:
            for piece in check_source(job.test_source, "test", schema, quarantine.add):
                counts[TEST] += piece.rows.num_rows
        check_share(quarantine, int(counts.sum()) + quarantine.num_rows, job.config)

    pipeline = job.unfitted.fit(regroup(training_rows(), rows_per_piece(schema)))
    train, validation, test = (int(count) for count in counts)
    return Survey(pipeline, (train, validation, test), train + validation + test + quarantine.num_rows)


def fill(job: Job, found: Survey, quarantine: Quarantine, make: MakeAppender) -> dict[str, pa.Table]:
    """Read everything again, transform it and hand it to the appenders; gives the samples by name.

    Rows whose label never occurs in training are refused here. Raises `DataError` as `survey` does.
    """
    appenders = [
        {name: make(array_file(part, name), dtype, shape, most) for name, dtype, shape in layout(found.pipeline)}
        for part, most in zip(PARTS, found.num_rows, strict=True)
    ]
    samples = [RowSample(_sample_rows(job), job.seed) for _ in PARTS]
    pieces = _cut(_labelled(job, found.pipeline, quarantine), max(1, _MAX_ARRAY_BYTES // _row_bytes(found.pipeline)))
    typed = pa.schema([])
    for piece, arrays in job.processor.map(lambda piece: (piece, _transform(found.pipeline, piece)), pieces):
        for name, values in arrays.items():
            appenders[piece.part][name].append(values)
        samples[piece.part].add(piece.rows, piece.positions)
        typed = piece.rows.schema
    for appender in (appender for part in appenders for appender in part.values()):
        appender.finish()
    check_share(quarantine, found.num_read, job.config)
    return _name_samples([sample.table(typed) for sample in samples])


def layout(pipeline: Pipeline) -> list[tuple[str, np.dtype[Any], tuple[int, ...]]]:
    """The arrays of a part: (name, dtype, shape of one row). Inputs are named by their index in `pipeline.outputs`."""
    inputs = [(str(index), np.dtype(spec.dtype), spec.shape) for index, spec in enumerate(pipeline.outputs.values())]
    target = np.dtype(np.int64 if pipeline.target.task == "classification" else np.float32)
    return [*inputs, ("target", target, ()), ("positions", np.dtype(np.int64), ())]


def _row_bytes(pipeline: Pipeline) -> int:
    return sum(math.prod(shape) * dtype.itemsize for _, dtype, shape in layout(pipeline))


def check_share(quarantine: Quarantine, num_read: int, config: DataConfig) -> None:
    """Raise `DataError` when more than `max_rejected` of `num_read` rows were refused."""
    if quarantine.first is None or quarantine.num_rows <= config.max_rejected * num_read:
        return
    first = quarantine.first
    raise DataError(
        f"at most {config.max_rejected:.4g} of the rows must be refused (data.max_rejected), got {quarantine.num_rows} "
        f"of {num_read}; the first is row {first.row_number}: {first.reason}; see {quarantine.path}"
    )


# --- the second pass --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Piece:
    """Checked rows of one part with their encoded target [n] and their places [n]."""

    part: int
    rows: pa.RecordBatch
    positions: IntArray
    target: Array


def _labelled(job: Job, pipeline: Pipeline, quarantine: Quarantine) -> Iterator[_Piece]:
    schema = job.unfitted.schema
    for checked in check_source(job.source, "data", schema, None):
        known = _encode(checked, "data", pipeline, quarantine)
        parts = job.parts_of(known.positions)
        for part in range(len(PARTS)):
            if (chosen := parts == part).any():
                rows = known.rows.filter(pa.array(chosen))
                yield _Piece(part, rows, known.positions[chosen], known.target[chosen])
    if job.test_source is not None:
        for checked in check_source(job.test_source, "test", schema, None):
            yield _encode(checked, "test", pipeline, quarantine)


def _cut(pieces: Iterator[_Piece], num_rows: int) -> Iterator[_Piece]:
    """The same rows in pieces of at most `num_rows`."""
    for piece in pieces:
        for start in range(0, len(piece.positions), num_rows):
            taken = slice(start, start + num_rows)
            rows = piece.rows.slice(start, num_rows)
            yield _Piece(piece.part, rows, piece.positions[taken], piece.target[taken])


def _encode(checked: CheckedRows, source: str, pipeline: Pipeline, quarantine: Quarantine) -> _Piece:
    """The target of `checked` rows; rows with a label that training never saw are refused."""
    rows, positions = checked.rows, checked.positions
    name = pipeline.target.column
    target = pipeline.target.encode(rows.column(name))
    if pipeline.target.task == "classification" and (target < 0).any():
        is_known = target >= 0
        for index in np.flatnonzero(~is_known).tolist():
            label = rows.column(name)[index].as_py()
            reason = f"{name} must be a label of the training rows, got {label!r}"
            row = describe_row(rows, index)
            quarantine.add(RefusedRow(source, int(positions[index]), name, "unseen_label", reason, row))
        rows, positions, target = rows.filter(pa.array(is_known)), positions[is_known], target[is_known]
    return _Piece(TEST, rows, positions, target)


def _transform(pipeline: Pipeline, piece: _Piece) -> dict[str, Array]:
    inputs = pipeline.transform(piece.rows)
    arrays = {str(index): inputs[name] for index, name in enumerate(pipeline.outputs)}
    return {**arrays, "target": piece.target, "positions": piece.positions}


def _sample_rows(job: Job) -> int:
    row_bytes = sum(4 * math.prod(column.shape) for column in job.unfitted.schema.columns)
    return max(1, min(_SAMPLE_ROWS, _MAX_SAMPLE_BYTES // row_bytes))


def _name_samples(tables: list[pa.Table]) -> dict[str, pa.Table]:
    """Calibration, holdout and gate from the three parts; without a test part the gate checks what else there is."""
    train, validation, test = tables
    gate = next((table for table in (test, validation) if table.num_rows), train)
    return dict(zip(SAMPLES, (train, validation, gate), strict=True))
