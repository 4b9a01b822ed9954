"""The one way from raw values to an answer: compiled pipeline, runtime, decoder.

The server, offline scoring and the golden check all call a `Predictor`; there is no second path to drift away from
it. `predict_table` goes through the columns way of the pipeline instead (the one training used): the skew gate
compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from corelane.core.errors import BundleError, MemoryBudgetError, RequestError
from corelane.core.types import Array, IntArray, NamedArrays
from corelane.data.tensor_pipeline import AnyPipeline, TensorPipeline
from corelane.model.decode import Decoder
from corelane.model.runtimes.base import Runtime

_NO_MEMORY_WORDS = ("bad_alloc", "Failed to allocate", "bad allocation", "annot allocate", "out of memory")
"""How runtimes say that there is no memory for their buffers."""


def is_out_of_memory(error: BundleError | MemoryBudgetError) -> bool:
    """Whether a runtime failed for want of memory: it raises the same for rows that it cannot compute."""
    return any(word in error.detail for word in _NO_MEMORY_WORDS)


class Predictor:
    """Owns the runtime it is given (`close` closes it) and nothing else. Safe to call from several threads."""

    def __init__(self, pipeline: AnyPipeline, decoder: Decoder, runtime: Runtime) -> None:
        compiled = pipeline.compile()
        self.pipeline = pipeline
        self.decoder = decoder
        self.runtime = runtime
        self._transform = compiled.transform
        self._transform_matrix = compiled.transform_matrix
        self._run = runtime.run if pipeline.target is not None else self._run_foreign
        self._decode = decoder.decode

    def predict_columns(self, columns: Mapping[str, Any]) -> dict[str, Array]:
        """Answers for raw `columns` by name, each with n values, as `CompiledPipeline.transform` takes them.

        Returns `label` [n] (multi-label: `labels` bool [n, k]) and `probabilities` float32 [n, k], or `value` float64
        [n]; of somebody else's network its outputs. Raises `RequestError`.
        """
        return self._decode(self._run(self._transform(columns)))

    def predict_matrix(self, values: Array) -> dict[str, Array]:
        """Answers for `values` [n, d], columns in schema order: the fast way where every column is numeric.

        Raises `RequestError` when the schema is not all numeric or the shape does not fit.
        """
        return self._decode(self._run(self._transform_matrix(values)))

    def predict_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answers for `rows`, one mapping of column to value per row (None is a missing value).

        Returns per row `{"label": ..., "probabilities": {label: p}}` (multi-label: `"labels": [...]`) or
        `{"value": x}` in plain Python types. Raises `RequestError` naming the row when a column is missing or unknown.
        """
        return self.records(self.predict_columns(self.columns_of(rows)))

    def predict_table(self, rows: pa.RecordBatch, *, batch_size: int | None = None) -> dict[str, Array]:
        """Answers for rows that `Schema.check` has accepted, through the columns way of the pipeline.

        The network gets `batch_size` of them at a time, all at once without it. Where rows of different shapes are
        among them, each shape is run for itself, and an output whose shape differs is an object array of arrays.
        """
        if isinstance(self.pipeline, TensorPipeline) and len(groups := self.pipeline.alike(rows)) > 1:
            alike = [self.predict_table(rows.take(pa.array(group)), batch_size=batch_size) for group in groups]
            return {name: _scattered(groups, [part[name] for part in alike]) for name in alike[0]}
        inputs = self.pipeline.transform(rows)
        if batch_size is None or rows.num_rows <= batch_size:
            return self._decode(self._run(inputs))
        starts = range(0, rows.num_rows, batch_size)
        parts = [{name: values[start : start + batch_size] for name, values in inputs.items()} for start in starts]
        return self._decode(_joined([self._run(part) for part in parts]))

    def _run_foreign(self, inputs: NamedArrays) -> dict[str, Array]:
        """What somebody else's network cannot compute is the caller's to change: its limits are in nobody's schema."""
        try:
            outputs = self.runtime.run(inputs)
        except (BundleError, MemoryBudgetError) as error:
            if is_out_of_memory(error):
                raise MemoryBudgetError(
                    "the runtime must have memory for its buffers, got none; send fewer or shorter rows",
                    detail=error.detail,
                ) from error
            raise RequestError(
                "the rows must be ones that the network can compute, got a failure inside it; look at their lengths, "
                "and at numbers that stand for places, such as tokens",
                detail=error.detail,
            ) from error
        num_rows = len(next(iter(inputs.values())))
        for name, values in outputs.items():  # rows of several callers may be among them: none may get another's
            if not values.ndim or len(values) != num_rows:
                raise RequestError(
                    f"each output must have a row for each of the {num_rows} rows, got the shape {list(values.shape)} "
                    f"of {name!r}; the network does not take rows of such lengths"
                )
        return outputs

    def columns_of(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """`rows` turned to columns. Every row must have the first one's columns, or `RequestError` names the row."""
        if not rows:
            raise RequestError("rows must have at least one row, got none; send one mapping per row")
        odd_index = next((index for index, row in enumerate(rows) if not isinstance(row, Mapping)), None)
        if odd_index is not None:
            got = type(rows[odd_index]).__name__
            raise RequestError(f"row {odd_index} must be a mapping of column to value, got {got}; send one per row")
        names = rows[0].keys()
        for index, row in enumerate(rows):
            if row.keys() != names:
                odd = sorted(map(str, row.keys() ^ names))[0]
                raise RequestError(
                    f"row {index} must have the columns of row 0, but {odd!r} is in only one of them; "
                    "send null for a missing value"
                )
        return {name: [row[name] for row in rows] for name in names}

    def records(self, answers: Mapping[str, Array]) -> list[dict[str, Any]]:
        """`answers` as one plain dict per row."""
        return self.decoder.records(answers)

    def close(self) -> None:
        """Close the runtime. May be called twice."""
        self.runtime.close()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _joined(parts: Sequence[NamedArrays]) -> NamedArrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _scattered(groups: Sequence[IntArray], parts: Sequence[Array]) -> Array:
    """The rows of `parts` at the places that `groups` say: one array where their shapes are the same."""
    num_rows = sum(map(len, groups))
    is_alike = len({part.shape[1:] for part in parts}) == 1
    joined = np.empty((num_rows, *parts[0].shape[1:]), parts[0].dtype) if is_alike else np.empty(num_rows, object)
    for group, part in zip(groups, parts, strict=True):
        for place, row in zip(group.tolist(), part, strict=True):
            joined[place] = row
    return joined
