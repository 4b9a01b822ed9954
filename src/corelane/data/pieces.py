"""One piece of rows at a time: what the threads make of it in each of the two passes of preparing.

Nothing is remembered from piece to piece; what depends on the order of rows is `passes.py` and `judge.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from corelane.core.types import Array, BoolArray, IntArray
from corelane.data.checked import CheckedRows, RawRows, check_piece
from corelane.data.job import Job
from corelane.data.judge import Judgement, RuleKeys, repeated, rule_keys
from corelane.data.key_columns import with_keys
from corelane.data.pipeline import Pipeline
from corelane.data.quarantine import RefusedRow, describe_row
from corelane.data.split import PARTS, TRAIN
from corelane.data.target import TargetEncoder


@dataclass(frozen=True, slots=True)
class Looked:
    """What the first pass takes of a piece: its n checked rows with the columns that only the rules read, their places,
    parts and keys, those that train [m], and what was refused.
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


def look(job: Job, source: str, raw: RawRows) -> Looked:
    """The first pass: check a piece of the source of that name, and take what the fit and the rules need of it."""
    checked = check_piece(raw, source, job.unfitted.schema, tells=True)
    parts = job.parts_of(source, checked.positions)
    training_rows = checked.rows.filter(pa.array(parts == TRAIN))
    rows = with_keys(job.rules, checked.rows, checked.positions, raw)
    return Looked(rows, checked.positions, parts, rule_keys(job.rules, rows), training_rows, checked.refused)


def repeats(job: Job, source: str, piece: Looked, judged: Judgement) -> Iterator[RefusedRow]:
    """The rows that have a value again which must be unique."""
    for index, which in judged.faults():
        name = job.rules.unique[which]
        code, reason = repeated(name, piece.rows, index)
        text = describe_row(piece.rows, index)
        yield RefusedRow(source, int(piece.positions[index]), name, code, reason, text)


@dataclass(frozen=True, slots=True)
class Made:
    """What the second pass takes of a piece: checked rows with their places [n], which of them belong to each part,
    and each part's arrays by name.
    """

    rows: pa.RecordBatch
    positions: IntArray
    chosen: tuple[IntArray, ...]
    arrays: tuple[dict[str, Array], ...]
    refused: tuple[RefusedRow, ...]


def make_arrays(job: Job, pipeline: Pipeline, left_out: IntArray, source: str, raw: RawRows) -> Made:
    """The second pass: check a piece again, without the rows at the positions `left_out`, and transform it.

    It is transformed as a whole and then divided: rows of one array are copied faster than those of many columns.
    """
    checked = _kept(check_piece(raw, source, job.unfitted.schema, tells=False), left_out)
    rows, positions, target, refused = _encode(checked, source, pipeline)
    inputs = pipeline.transform(rows)
    whole = {str(index): inputs[name] for index, name in enumerate(pipeline.outputs)}
    whole |= {"target": target, "positions": positions}
    parts = job.parts_of(source, positions)
    chosen = tuple(np.flatnonzero(parts == part) for part in range(len(PARTS)))
    arrays = tuple({name: values.take(places, axis=0) for name, values in whole.items()} for places in chosen)
    return Made(rows, positions, chosen, arrays, refused)


def _kept(checked: CheckedRows, left_out: IntArray) -> CheckedRows:
    """`checked` without the rows at the positions `left_out` [k]."""
    rows, positions = checked.rows, checked.positions
    if not len(positions):
        return checked
    first, last = np.searchsorted(left_out, [positions[0], positions[-1] + 1])
    if first == last:
        return checked
    is_kept = ~np.isin(positions, left_out[first:last], assume_unique=True)
    return CheckedRows(rows.filter(pa.array(is_kept)), positions[is_kept])


def _encode(
    checked: CheckedRows, source: str, pipeline: Pipeline
) -> tuple[pa.RecordBatch, IntArray, Array, tuple[RefusedRow, ...]]:
    """Rows, places and target of `checked` rows; those with a label that training never saw are refused."""
    rows, positions = checked.rows, checked.positions
    target = pipeline.target.encode(rows)
    is_known = pipeline.target.is_known(target)
    if is_known.all():
        return rows, positions, target, ()
    name = pipeline.target.name
    refused = []
    for index in np.flatnonzero(~is_known).tolist():
        label = rows.column(name)[index].as_py()
        reason = f"{name} must be {_wanted(pipeline.target)}, got {label!r}"
        row = describe_row(rows, index)
        refused.append(RefusedRow(source, int(positions[index]), name, "unseen_label", reason, row))
    return rows.filter(pa.array(is_known)), positions[is_known], target[is_known], tuple(refused)


def _wanted(target: TargetEncoder) -> str:
    if target.separator is None:
        return "a label of the training rows"
    return f"labels of the training rows, separated by {target.separator!r}"
