"""Looking at a source without training on it: which rows would be refused and why, and what the others hold.

It reads the source as preparing does, in pieces on the processor's threads and in bounded memory: once for the schema,
once to check, judge and describe. Nothing is written, and nothing is left out of what is told. `corelane data check`
calls it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import pyarrow as pa

from corelane.core.types import IntArray
from corelane.data.checked import RawRows, batches_of, raw_pieces, rows_per_piece
from corelane.data.config import DataConfig, PipelineConfig
from corelane.data.dataset_profile import DataProfile
from corelane.data.infer import Problem, infer_usable
from corelane.data.judge import RowJudge, RuleKeys, repeated, rule_keys
from corelane.data.key_columns import with_keys
from corelane.data.pipeline import Pipeline
from corelane.data.processor import CPUDataProcessor
from corelane.data.profiling import Profiler
from corelane.data.rules import RowRules
from corelane.data.schema import Schema
from corelane.data.source import DataSource

MAX_EXAMPLES = 3  # row numbers that are told of each fault


@dataclass(slots=True)
class Fault:
    """Rows refused for one reason: in which column, by which code, how many, where the first are (their positions) and
    why the first one was. `is_dropped` says that such rows are left out without being quarantined.
    """

    column: str
    code: str
    reason: str
    is_dropped: bool = False
    num_rows: int = 0
    positions: list[int] = field(default_factory=list)

    def add(self, position: int) -> None:
        """Count one more row."""
        self.num_rows += 1
        if len(self.positions) < MAX_EXAMPLES:
            self.positions.append(position)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found in a source: rows in all, those that would be kept, copies, faults by column and reason, why it
    could not be trained on, and the profile of the rows that are kept (None when no column can be used).
    """

    num_rows: int
    num_kept: int
    num_copies: int
    faults: tuple[Fault, ...]
    problems: tuple[Problem, ...]
    profile: DataProfile | None
    profiler: Profiler | None

    @property
    def num_refused(self) -> int:
        """Rows that would be quarantined."""
        return sum(fault.num_rows for fault in self.faults if not fault.is_dropped)

    @property
    def num_dropped(self) -> int:
        """Rows at fault that would be left out without a word."""
        return sum(fault.num_rows for fault in self.faults if fault.is_dropped)


def inspect_source(
    source: DataSource,
    config: DataConfig,
    pipeline: PipelineConfig,
    targets: Sequence[str],
    *,
    processor: CPUDataProcessor,
    budget_bytes: int,
) -> Inspection:
    """Read all of `source` twice and tell what is in it, under what `config` declares.

    Raises `DataError` for what is wrong with the data as a whole (no rows, a named column absent, a torn file),
    `ConfigError` when a declaration cannot be, and what the source raises.
    """
    found = infer_usable((batch.rows for batch in processor.ahead(batches_of(source))), config, pipeline, targets)
    if found.schema is None:
        return Inspection(_count(source), 0, 0, (), found.problems, None, None)
    if found.schema.targets:
        Pipeline.build(found.schema, pipeline)  # a setting of the pipeline that the columns do not take
    inspector = _Inspector(found.schema, RowRules.of(config, found.schema), budget_bytes)
    inspector.read(source, processor)
    return inspector.finish(found.problems, config)


def _count(source: DataSource) -> int:
    return sum(batch.rows.num_rows + len(batch.broken) for batch in batches_of(source))


@dataclass(frozen=True, slots=True)
class _Piece:
    """What the threads make of a piece: its checked rows, their places and keys, and (position, column, code, reason)
    of every row that is refused.
    """

    rows: pa.RecordBatch
    positions: IntArray
    keys: RuleKeys
    refused: list[tuple[int, str, str, str]]


def _check(schema: Schema, rules: RowRules, raw: RawRows) -> _Piece:
    checked = schema.check(raw.rows, needs_target=True)
    refused = [(row.position, "", "unreadable_row", row.reason) for row in raw.broken]
    refused += [(int(raw.positions[one.index]), one.column, one.code, one.reason) for one in checked.rejects]
    positions = raw.positions[checked.accepted]
    rows = with_keys(rules, checked.rows, positions, raw)
    return _Piece(rows, positions, rule_keys(rules, rows), sorted(refused))


class _Inspector:
    """Owns what was seen so far of one source and nothing else."""

    def __init__(self, schema: Schema, rules: RowRules, budget_bytes: int) -> None:
        self._schema = schema
        self._rules = rules
        self._judge = RowJudge(rules, budget_bytes)
        self._profiler = Profiler(schema)
        self._faults: dict[tuple[str, str], Fault] = {}
        self._num_kept = 0
        self._num_copies = 0

    def read(self, source: DataSource, processor: CPUDataProcessor) -> None:
        """Take all rows of `source`, in order."""
        check = partial(_check, self._schema, self._rules)
        pieces = processor.ahead(raw_pieces(source, rows_per_piece(self._schema)))
        for piece in processor.map(check, pieces):
            for position, column, code, reason in piece.refused:
                self._blame(position, column, code, reason)
            self._take(piece)

    def _take(self, piece: _Piece) -> None:
        judged = self._judge.judge(piece.keys, len(piece.positions))
        for index, which in judged.faults():
            name = self._rules.unique[which]
            self._blame(int(piece.positions[index]), name, *repeated(name, piece.rows, index))
        is_kept = ~judged.is_left_out
        self._num_copies += int(judged.is_copy.sum())
        self._num_kept += int(is_kept.sum())
        self._profiler.update(piece.rows if is_kept.all() else piece.rows.filter(pa.array(is_kept)))

    def _blame(self, position: int, column: str, code: str, reason: str) -> None:
        is_dropped = column in self._rules.dropping
        self._faults.setdefault((column, code), Fault(column, code, reason, is_dropped)).add(position)

    def finish(self, problems: Iterable[Problem], config: DataConfig) -> Inspection:
        """What was found, with the `problems` of inference and those that only the rows show."""
        profile = self._profiler.profile()
        faults = tuple(sorted(self._faults.values(), key=lambda fault: -fault.num_rows))
        num_rows = self._num_kept + self._num_copies + sum(fault.num_rows for fault in faults)
        found = Inspection(num_rows, self._num_kept, self._num_copies, faults, (), profile, self._profiler)
        return replace(found, problems=(*problems, *_problems(found, config)))


def _problems(found: Inspection, config: DataConfig) -> Iterator[Problem]:
    """What would end a training on the rows that were read."""
    if found.num_refused > config.max_rejected * found.num_rows:
        yield Problem(
            "",
            f"at most {config.max_rejected:.4g} of the rows must be refused (data.max_rejected), "
            f"got {found.num_refused} of {found.num_rows}",
        )
    if not found.num_kept:
        yield Problem("", "there must be a row to train on, got none that is kept; see why rows are refused")
    if found.profile is None or not found.num_kept:
        return
    for column in found.profile.columns:
        if column.name in found.profile.targets and column.kind == "categorical":
            if (column.num_distinct or 0) + (column.num_missing > 0) < 2:
                shown = repr(column.top[0][0]) if column.top else "none"
                reason = f"the target {column.name} must have at least two different labels, got only {shown}"
                yield Problem(column.name, f"{reason} among the rows that are kept")
        elif column.kind in ("numeric", "date") and column.num_missing == column.num_rows:
            reason = f"{column.name} must have a value in at least one row that is kept, got none"
            yield Problem(column.name, f"{reason}; leave it out with data.exclude")
