"""Offline scoring: many rows, in batches, several batches side by side, results in the order of the rows.

`corelane predict` and `evaluate` use it. Every row that comes in comes out: a rejected one with its reason instead of
an answer. A batch goes through the columns way of the pipeline, then the runtime and decoder of a served request.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from corelane.core.errors import ConfigError, RequestError
from corelane.core.types import Array, IntArray
from corelane.data.batch import Batch, BrokenRow
from corelane.data.schema import Checked, Reject
from corelane.model.predictor import Predictor
from corelane.model.signature import TensorMeta

PART_ROWS = 16_384  # that a thread checks, prepares and decodes at once: Arrow's cost per call is that of 1,000 rows
PART_BYTES = 16 << 20  # of what the network gets of them, where rows are large
ANSWER_BYTES = 64 << 20  # of what it gives for them: two parts for each thread are under way
FREE_LENGTH = 256  # that a length which is free is taken for in this
NOT_FINITE = "the answer must be finite, got NaN or infinity: the values of the row are too large"
ResultT = TypeVar("ResultT")
ROW, REJECTED = "row", "rejected"


@dataclass(frozen=True, slots=True)
class Scored:
    """One batch's answers: what the schema said of its n rows, and the outputs by name for the accepted ones.

    `positions` int64 [n] are the rows' indices in the source, `broken` the rows between them that could not be read.
    """

    positions: IntArray
    checked: Checked
    answers: Mapping[str, Array]
    broken: tuple[BrokenRow, ...]

    @property
    def num_rejected(self) -> int:
        """Rows without an answer: refused by the schema, or unreadable."""
        return len(self.checked.rejects) + len(self.broken)


class _Part(NamedTuple):
    """Raw rows of a source, their positions there, and the rows between them that could not be read."""

    positions: IntArray
    rows: pa.RecordBatch
    broken: tuple[BrokenRow, ...]


class OptimizedBatchProcessor:
    """Owns the threads that score batches, and nothing else; the predictor stays the caller's.

    `num_threads` batches of `batch_size` rows are computed at the same time, so the predictor's runtime should use one
    thread per call: splitting rows between threads needs no synchronisation, splitting each matrix product does. What
    is around the network (checks, pipeline, answers as columns) happens on the same threads, many batches at a time.
    `outputs` are those of the package's signature: where they are large, fewer rows are under way.
    """

    def __init__(
        self,
        batch_size: int = 32,
        num_threads: int = 8,
        *,
        predictor: Predictor,
        outputs: Sequence[TensorMeta] = (),
    ) -> None:
        if batch_size < 1 or num_threads < 1:
            raise ConfigError(
                f"batch_size and num_threads must be at least 1, got {batch_size} and {num_threads}; give larger ones"
            )
        self.batch_size = batch_size
        self.num_threads = num_threads
        self.predictor = predictor
        self._part_size = _PartSize(batch_size, predictor, outputs)
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="corelane-score")

    def process_batch(self, batch: pa.RecordBatch, *, needs_target: bool = False) -> tuple[Checked, dict[str, Array]]:
        """Check and answer one batch of raw source rows in the calling thread.

        Returns the verdict on every row and the answers for the accepted ones. With `needs_target`, rows without a
        valid target are rejected too, and the verdict's rows hold the target column.
        """
        checked = self.predictor.pipeline.schema.check(batch, needs_target=needs_target)
        try:
            return checked, self.predictor.predict_table(checked.rows, batch_size=self.batch_size)
        except RequestError as error:  # rows that the schema accepts, and somebody else's network does not
            checked = _without(checked, self._failing(checked.rows, 0), error.message)
        return checked, self.predictor.predict_table(checked.rows, batch_size=self.batch_size)

    def _failing(self, rows: pa.RecordBatch, first: int) -> list[int]:
        """The places, from `first` on, of the `rows` that the network cannot compute: found by halving."""
        try:
            self.predictor.predict_table(rows, batch_size=self.batch_size)
        except RequestError:
            half = rows.num_rows // 2
            if not half:
                return [first]
            return [*self._failing(rows[:half], first), *self._failing(rows[half:], first + half)]
        return []

    def run(self, batches: Iterable[Batch], *, needs_target: bool = False) -> Iterator[Scored]:
        """Answers for a source's `batches`, in parts, in order.

        The calling thread reads batches as they are needed; at most 2 x `num_threads` parts are under way.
        """
        return self._map(partial(self._score_part, needs_target=needs_target), batches)

    def score(self, batches: Iterable[Batch]) -> Iterator[pa.RecordBatch]:
        """One result row per source row, in order, as flat columns that any table format can hold.

        `row` (source position), then `label` (multi-label: `label.<label>` for each) and `probability.<label>` for each
        label, or `value`, then `rejected`: null, or why the row has no answer.
        """
        return self._map(self._score_to_rows, batches)

    def _map(self, function: Callable[[_Part], ResultT], batches: Iterable[Batch]) -> Iterator[ResultT]:
        """`function` of each part, on the threads, results in order."""
        pending: deque[Future[ResultT]] = deque()
        try:
            for part in self._cut(batches):
                pending.append(self._pool.submit(function, part))
                if len(pending) >= 2 * self.num_threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def close(self) -> None:
        """Wait for the threads to end. May be called twice."""
        self._pool.shutdown()

    def __enter__(self) -> OptimizedBatchProcessor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _cut(self, batches: Iterable[Batch]) -> Iterator[_Part]:
        for batch in batches:
            positions = batch.positions
            first = batch.first_position
            part_rows = self._part_size.of(batch.rows)
            for start in range(0, max(len(positions), 1), part_rows):
                stop = start + part_rows
                end = int(positions[stop]) if stop < len(positions) else batch.next_cursor.position
                broken = tuple(row for row in batch.broken if first <= row.position < end)
                yield _Part(positions[start:stop], batch.rows.slice(start, part_rows), broken)
                first = end

    def _score_part(self, part: _Part, *, needs_target: bool = False) -> Scored:
        checked, answers = self.process_batch(part.rows, needs_target=needs_target)
        return Scored(part.positions, checked, answers, part.broken)

    def _score_to_rows(self, part: _Part) -> pa.RecordBatch:
        return self._results(self._score_part(part))

    def _results(self, scored: Scored) -> pa.RecordBatch:
        """The rows of `scored` as columns; where each has an answer, the answers as they are."""
        if scored.num_rejected or not self.predictor.decoder.are_finite(scored.answers).all():
            return self._partial_results(scored)
        columns: dict[str, Any] = {ROW: scored.positions, **self.predictor.decoder.flat(scored.answers)}
        columns[REJECTED] = pa.nulls(len(scored.positions), pa.string())
        return pa.RecordBatch.from_pydict(columns)

    def _partial_results(self, scored: Scored) -> pa.RecordBatch:
        """The same where some rows have a reason instead, or stand between the others."""
        accepted = np.concatenate([scored.checked.accepted, np.zeros(len(scored.broken), dtype=np.bool_)])
        # Where an accepted row's answer stands among the answers; null for the others.
        places = np.cumsum(accepted) - 1
        not_finite = np.flatnonzero(accepted)[~self.predictor.decoder.are_finite(scored.answers)]
        accepted[not_finite] = False
        place = pa.array(places, mask=~accepted)
        positions = np.concatenate([scored.positions, [row.position for row in scored.broken]]).astype(np.int64)
        reasons: list[str | None] = [None] * len(scored.positions) + [row.reason for row in scored.broken]
        for reject in scored.checked.rejects:
            reasons[reject.index] = reject.reason
        for index in not_finite.tolist():
            reasons[index] = NOT_FINITE
        columns: dict[str, pa.Array] = {ROW: pa.array(positions)}
        flat = self.predictor.decoder.flat(scored.answers)
        columns |= {name: values.take(place) for name, values in flat.items()}
        columns[REJECTED] = pa.array(reasons, pa.string())
        return pa.RecordBatch.from_pydict(columns).sort_by(ROW)


def _without(checked: Checked, failing: list[int], reason: str) -> Checked:
    """`checked`, its accepted rows at the places `failing` rejected too."""
    indices = np.flatnonzero(checked.accepted)[failing]
    accepted = checked.accepted.copy()
    accepted[indices] = False
    kept = np.ones(checked.rows.num_rows, dtype=np.bool_)
    kept[failing] = False
    rejects = [*checked.rejects, *(Reject(index, "", "not_computed", reason) for index in indices.tolist())]
    return Checked(checked.rows.filter(pa.array(kept)), accepted, tuple(sorted(rejects, key=lambda one: one.index)))


class _PartSize:
    """How many rows make a part: whole batches where that is possible, within bounds of rows and of bytes."""

    def __init__(self, batch_size: int, predictor: Predictor, outputs: Sequence[TensorMeta]) -> None:
        self._batch_size = batch_size
        self._taken = _row_bytes(spec.shape for spec in predictor.pipeline.outputs.values())
        self._given = _row_bytes(tensor.shape[1:] for tensor in outputs)

    def of(self, rows: pa.RecordBatch) -> int:
        """For raw `rows`. Where they are larger than was assumed of free lengths, answers will be so as well."""
        scale = max(1.0, rows.nbytes / max(rows.num_rows, 1) / self._taken)
        most = min(PART_ROWS, int(PART_BYTES / (scale * self._taken)), int(ANSWER_BYTES / (scale * self._given)))
        return max(1, most if most < self._batch_size else most // self._batch_size * self._batch_size)


def _row_bytes(shapes: Iterable[Sequence[int]]) -> int:
    lengths = [[length if length > 0 else FREE_LENGTH for length in shape] for shape in shapes]
    return max(1, sum(4 * math.prod(shape) for shape in lengths))
