"""The two passes over the data that preparing takes: one checks, counts and fits, the other transforms and keeps.

Both stream: what is in memory at a time is a few pieces of rows, whatever the size of the data. Where the arrays go is
the caller's choice of `Appender`; caching, and what happens when the disk is full, is `prepare.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from corelane.core.errors import DataError
from corelane.core.types import IntArray
from corelane.data.appender import Appender
from corelane.data.checked import raw_pieces, rows_per_piece
from corelane.data.config import DataConfig
from corelane.data.digest import regroup
from corelane.data.job import Job
from corelane.data.judge import RowJudge
from corelane.data.kept_rows import Kept, KeptRows
from corelane.data.pieces import look, make_arrays, repeats
from corelane.data.pipeline import Pipeline
from corelane.data.prepared import array_file
from corelane.data.quarantine import Quarantine
from corelane.data.split import PARTS

MakeAppender: TypeAlias = Callable[[str, "np.dtype[Any]", tuple[int, ...], int], Appender]
"""(file name, dtype, row shape, most rows) to where one array of one part is kept."""

_MAX_ARRAY_BYTES = 8 << 20  # transformed at a time: a piece of categories is small, as one-hot rows it may be gigabytes


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
            check, judge = partial(look, job, source.name), RowJudge(job.rules, job.budget_bytes)
            places: list[IntArray] = [np.empty(0, dtype=np.int64)]
            for piece in job.processor.map(check, job.processor.ahead(raw_pieces(source.rows, rows_per_piece(schema)))):
                for row in piece.refused:
                    quarantine.add(row)
                judged = judge.judge(piece.keys, len(piece.parts))
                for row in repeats(job, source.name, piece, judged):
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


def fill(job: Job, found: Survey, quarantine: Quarantine, make: MakeAppender) -> Kept:
    """Read everything again, transform it, hand it to the appenders, and keep samples of it.

    Rows whose label never occurs in training are refused here. Raises `DataError` as `survey` does.
    """
    appenders = [
        {name: make(array_file(part, name), dtype, shape, most) for name, dtype, shape in layout(found.pipeline)}
        for part, most in zip(PARTS, found.num_rows, strict=True)
    ]
    kept = KeptRows(found.pipeline, job.seed)
    num_rows = min(rows_per_piece(job.unfitted.schema), max(1, _MAX_ARRAY_BYTES // _row_bytes(found.pipeline)))
    for source in job.sources():
        transform = partial(make_arrays, job, found.pipeline, found.left_out[source.name], source.name)
        for piece in job.processor.map(transform, job.processor.ahead(raw_pieces(source.rows, num_rows))):
            for row in piece.refused:
                quarantine.add(row)
            for part, arrays in zip(appenders, piece.arrays, strict=True):
                for name, values in arrays.items():
                    part[name].append(values)
            kept.add(piece.rows, piece.positions, piece.chosen)
    for appender in (appender for part in appenders for appender in part.values()):
        appender.finish()
    check_share(quarantine, found.num_read, job.config)
    return kept.finish()


def layout(pipeline: Pipeline) -> list[tuple[str, np.dtype[Any], tuple[int, ...]]]:
    """The arrays of a part: (name, dtype, shape of one row). Inputs are named by their index in `pipeline.outputs`."""
    inputs = [(str(index), np.dtype(spec.dtype), spec.shape) for index, spec in enumerate(pipeline.outputs.values())]
    target = ("target", pipeline.target.dtype, pipeline.target.shape)
    return [*inputs, target, ("positions", np.dtype(np.int64), ())]


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
