"""The two passes over the data that preparing takes: one checks, counts and fits, the other transforms and keeps.

Both stream: what is in memory at a time is a few pieces of rows, whatever the size of the data. Where the arrays go is
the caller's choice of `Appender`; caching, and what happens when the disk is full, is `prepare.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from corelane.core.errors import DataError
from corelane.core.types import Array, BoolArray, IntArray
from corelane.data.appender import Appender
from corelane.data.checked import CheckedRows, RawRows, check_piece, raw_pieces, rows_per_piece
from corelane.data.config import DataConfig
from corelane.data.dataset_profile import DataProfile
from corelane.data.digest import regroup
from corelane.data.judge import Judgement, RowJudge, RuleKeys, repeated, rule_keys
from corelane.data.pipeline import Pipeline, UnfittedPipeline
from corelane.data.prepared import SAMPLES, array_file
from corelane.data.processor import CPUDataProcessor
from corelane.data.profiling import Profiler, with_label_counts
from corelane.data.quarantine import Quarantine, RefusedRow, describe_row
from corelane.data.rules import RowRules
from corelane.data.sample import RowSample
from corelane.data.schema import Schema
from corelane.data.source import DataSource
from corelane.data.split import PARTS, TEST, TRAIN, part_of

MakeAppender: TypeAlias = Callable[[str, "np.dtype[Any]", tuple[int, ...], int], Appender]
"""(file name, dtype, row shape, most rows) to where one array of one part is kept."""

_MAX_ARRAY_BYTES = 8 << 20  # transformed at a time: a piece of categories is small, as one-hot rows it may be gigabytes
_SAMPLE_ROWS = 1000
_PROFILE_ROWS = 1 << 14  # a share of them is off by 0.8 % at most in 95 of 100 cases
_MAX_SAMPLE_BYTES = 64 << 20  # large images: fewer rows, so that three samples fit in memory


DATA, TEST_DATA = "data", "test"  # the sources' names in the quarantine


class NamedSource(NamedTuple):
    """A source and its name in the quarantine."""

    name: str
    rows: DataSource


@dataclass(frozen=True)
class Job:
    """What is prepared: the sources, what was configured, the pipeline to fit, what rows must keep to besides, and the
    memory that what is remembered of them may take.
    """

    source: DataSource
    test_source: DataSource | None
    config: DataConfig
    unfitted: UnfittedPipeline
    seed: int
    processor: CPUDataProcessor
    rules: RowRules
    budget_bytes: int

    @property
    def checks(self) -> Schema:
        """What raw rows are checked against: the schema, and the columns that only the rules read."""
        return self.rules.checked_schema(self.unfitted.schema)

    def sources(self) -> Iterator[NamedSource]:
        """The source, then the test source where there is one."""
        yield NamedSource(DATA, self.source)
        if self.test_source is not None:
            yield NamedSource(TEST_DATA, self.test_source)

    def parts_of(self, source: str, positions: IntArray) -> Array:
        """The part of the rows at `positions` [n] of the source of that name: int8 [n]."""
        if source == TEST_DATA:
            return np.full(len(positions), TEST, dtype=np.int8)
        return part_of(self.seed, positions, self.config.split, has_test_source=self.test_source is not None)


@dataclass(frozen=True)
class Survey:
    """What the first pass found: the fitted pipeline, rows that are kept per part (train, validation, test), rows in
    all, copies among them, and by source the positions, ascending, of checked rows that the rules leave out.
    """

    pipeline: Pipeline
    num_rows: tuple[int, int, int]
    num_read: int
    num_copies: int
    left_out: Mapping[str, IntArray]

    @property
    def num_bytes(self) -> int:
        """Size of all arrays of the prepared data, in bytes."""
        return sum(self.num_rows) * _row_bytes(self.pipeline)


def survey(job: Job, quarantine: Quarantine) -> Survey:
    """Read everything once: refuse, leave out, count, and fit on the training rows.

    Raises `DataError` when more than `max_rejected` of the rows are refused, or nothing is left to train on.
    """
    schema = job.unfitted.schema
    counts = np.zeros(len(PARTS), dtype=np.int64)
    left_out: dict[str, IntArray] = {}
    num_copies = 0

    def num_read() -> int:
        return int(counts.sum()) + num_copies + quarantine.num_rows + quarantine.dropped.total()

    def training_rows() -> Iterator[pa.RecordBatch]:
        nonlocal num_copies
        for source in job.sources():
            look, judge = partial(_look, job, source.name), RowJudge(job.rules, job.budget_bytes)
            places: list[IntArray] = [np.empty(0, dtype=np.int64)]
            for piece in job.processor.map(look, job.processor.ahead(raw_pieces(source.rows, rows_per_piece(schema)))):
                for row in piece.refused:
                    quarantine.add(row)
                judged = judge.judge(piece.keys, len(piece.parts))
                for row in _repeats(job, source.name, piece, judged):
                    quarantine.add(row)
                is_left_out = judged.is_left_out
                num_copies += int(judged.is_copy.sum())
                counts[:] += np.bincount(piece.parts[~is_left_out], minlength=len(PARTS))
                places.append(piece.positions[is_left_out])
                yield piece.training_rows_without(is_left_out)
            left_out[source.name] = np.concatenate(places)
        check_share(quarantine, num_read(), job.config)

    pipeline = job.unfitted.fit(regroup(training_rows(), rows_per_piece(schema)))
    train, validation, test = (int(count) for count in counts)
    return Survey(pipeline, (train, validation, test), num_read(), num_copies, left_out)


@dataclass(frozen=True)
class Filled:
    """What the second pass keeps beside the arrays: samples of checked rows by name, and the training rows' profile."""

    samples: Mapping[str, pa.Table]
    profile: DataProfile


def fill(job: Job, found: Survey, quarantine: Quarantine, make: MakeAppender) -> Filled:
    """Read everything again, transform it, hand it to the appenders, and keep samples of it.

    Rows whose label never occurs in training are refused here. Raises `DataError` as `survey` does.
    """
    appenders = [
        {name: make(array_file(part, name), dtype, shape, most) for name, dtype, shape in layout(found.pipeline)}
        for part, most in zip(PARTS, found.num_rows, strict=True)
    ]
    samples = [RowSample(_sample_rows(job, _SAMPLE_ROWS), job.seed) for _ in PARTS]
    described = RowSample(_sample_rows(job, _PROFILE_ROWS), job.seed)
    num_labels = np.zeros(len(found.pipeline.target.labels), dtype=np.int64)
    num_rows = min(rows_per_piece(job.unfitted.schema), max(1, _MAX_ARRAY_BYTES // _row_bytes(found.pipeline)))
    typed = pa.schema([])
    for source in job.sources():
        make_arrays = partial(_make_arrays, job, found, source.name)
        for piece in job.processor.map(make_arrays, job.processor.ahead(raw_pieces(source.rows, num_rows))):
            for row in piece.refused:
                quarantine.add(row)
            for part, chosen in enumerate(piece.chosen):
                for name, values in piece.arrays[part].items():
                    appenders[part][name].append(values)
                samples[part].add(piece.rows, piece.positions, chosen)
            described.add(piece.rows, piece.positions, piece.chosen[TRAIN])
            if len(num_labels):
                num_labels += np.bincount(piece.arrays[TRAIN]["target"], minlength=len(num_labels))
            typed = piece.rows.schema
    for appender in (appender for part in appenders for appender in part.values()):
        appender.finish()
    check_share(quarantine, found.num_read, job.config)
    named = _name_samples([sample.table(typed) for sample in samples])
    return Filled(named, _profile(job, found, described.table(typed), num_labels))


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


# --- on the threads ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Looked:
    """What the first pass takes of a piece: its n checked rows, their places, parts and keys for the rules, those that
    train [m], and what was refused.
    """

    rows: pa.RecordBatch
    positions: IntArray
    parts: Array
    keys: RuleKeys
    training_rows: pa.RecordBatch
    refused: tuple[RefusedRow, ...]

    def training_rows_without(self, is_left_out: BoolArray) -> pa.RecordBatch:
        """The training rows but for those of the n that are left out."""
        among_them = is_left_out[self.parts == TRAIN]
        return self.training_rows.filter(pa.array(~among_them)) if among_them.any() else self.training_rows


def _look(job: Job, source: str, raw: RawRows) -> _Looked:
    checked = check_piece(raw, source, job.checks, tells=True)
    parts = job.parts_of(source, checked.positions)
    training_rows = _without_keys(job, checked.rows).filter(pa.array(parts == TRAIN))
    keys = rule_keys(job.rules, checked.rows)
    return _Looked(checked.rows, checked.positions, parts, keys, training_rows, checked.refused)


def _without_keys(job: Job, rows: pa.RecordBatch) -> pa.RecordBatch:
    """Checked rows without the columns that only the rules read."""
    extra = {column.name for column in job.rules.keys}
    return rows.select([name for name in rows.schema.names if name not in extra]) if extra else rows


def _repeats(job: Job, source: str, piece: _Looked, judged: Judgement) -> Iterator[RefusedRow]:
    """The rows that have a value again which must be unique."""
    for index, which in judged.faults():
        name = job.rules.unique[which]
        code, reason = repeated(name, piece.rows, index)
        text = describe_row(piece.rows, index)
        yield RefusedRow(source, int(piece.positions[index]), name, code, reason, text)


@dataclass(frozen=True, slots=True)
class _Made:
    """What the second pass takes of a piece: checked rows with their places [n], which of them belong to each part,
    and each part's arrays by name.
    """

    rows: pa.RecordBatch
    positions: IntArray
    chosen: tuple[IntArray, ...]
    arrays: tuple[dict[str, Array], ...]
    refused: tuple[RefusedRow, ...]


def _make_arrays(job: Job, found: Survey, source: str, raw: RawRows) -> _Made:
    """Whole pieces are transformed and then divided: rows of one array are copied faster than those of many columns."""
    pipeline = found.pipeline
    checked = _kept(job, check_piece(raw, source, job.checks, tells=False), found.left_out[source])
    rows, positions, target, refused = _encode(checked, source, pipeline)
    inputs = pipeline.transform(rows)
    whole = {str(index): inputs[name] for index, name in enumerate(pipeline.outputs)}
    whole |= {"target": target, "positions": positions}
    parts = job.parts_of(source, positions)
    chosen = tuple(np.flatnonzero(parts == part) for part in range(len(PARTS)))
    arrays = tuple({name: values.take(places, axis=0) for name, values in whole.items()} for places in chosen)
    return _Made(rows, positions, chosen, arrays, refused)


def _kept(job: Job, checked: CheckedRows, left_out: IntArray) -> CheckedRows:
    """`checked` without the rows at the positions `left_out` [k], and without the columns that only the rules read."""
    rows, positions = _without_keys(job, checked.rows), checked.positions
    if not len(positions):
        return CheckedRows(rows, positions)
    first, last = np.searchsorted(left_out, [positions[0], positions[-1] + 1])
    if first == last:
        return CheckedRows(rows, positions)
    is_kept = ~np.isin(positions, left_out[first:last], assume_unique=True)
    return CheckedRows(rows.filter(pa.array(is_kept)), positions[is_kept])


def _encode(
    checked: CheckedRows, source: str, pipeline: Pipeline
) -> tuple[pa.RecordBatch, IntArray, Array, tuple[RefusedRow, ...]]:
    """Rows, places and target of `checked` rows; those with a label that training never saw are refused."""
    rows, positions = checked.rows, checked.positions
    name = pipeline.target.column
    target = pipeline.target.encode(rows.column(name))
    if pipeline.target.task != "classification" or not (target < 0).any():
        return rows, positions, target, ()
    is_known = target >= 0
    refused = []
    for index in np.flatnonzero(~is_known).tolist():
        label = rows.column(name)[index].as_py()
        reason = f"{name} must be a label of the training rows, got {label!r}"
        row = describe_row(rows, index)
        refused.append(RefusedRow(source, int(positions[index]), name, "unseen_label", reason, row))
    return rows.filter(pa.array(is_known)), positions[is_known], target[is_known], tuple(refused)


# --- samples ----------------------------------------------------------------------------------------------------------


def _sample_rows(job: Job, most: int) -> int:
    row_bytes = sum(4 * math.prod(column.shape) for column in job.unfitted.schema.columns)
    return max(1, min(most, _MAX_SAMPLE_BYTES // row_bytes))


def _profile(job: Job, found: Survey, sample: pa.Table, num_labels: IntArray) -> DataProfile:
    """The profile of the training rows from a `sample` of them; labels, of which the rarest matter, are counted all."""
    profiler = Profiler(job.unfitted.schema)
    for rows in sample.to_batches():
        profiler.update(rows)
    profile = profiler.profile(found.num_rows[TRAIN])
    if not len(num_labels):
        return profile
    counts = dict(zip(found.pipeline.target.labels, num_labels.tolist(), strict=True))
    return with_label_counts(profile, counts)


def _name_samples(tables: list[pa.Table]) -> dict[str, pa.Table]:
    """Calibration, holdout and gate from the three parts; without a test part the gate checks what else there is."""
    train, validation, test = tables
    gate = next((table for table in (test, validation) if table.num_rows), train)
    return dict(zip(SAMPLES, (train, validation, gate), strict=True))
