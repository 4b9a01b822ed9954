"""Named outputs of a pipeline, each a row of stages side by side: the only place that joins stages, in both ways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from corelane.core.types import Array
from corelane.data.stages.numeric import FittedNumeric
from corelane.data.stages.protocol import FittedStage, TensorSpec
from corelane.data.stages.tokens import FittedTokens


@dataclass(frozen=True, slots=True)
class FeatureSpan:
    """The places `start` to `stop` (exclusive) that one source column takes in an output of vectors.

    A column whose missing values have an indicator takes a second span, which is not numeric.
    """

    column: str
    is_numeric: bool
    start: int
    stop: int


class Block:
    """One output: a single stage's array as it is, or several stages' vectors side by side. Frozen."""

    def __init__(self, name: str, stages: tuple[FittedStage, ...]) -> None:
        self.name = name
        self.stages = stages
        shape = stages[0].shape if len(stages) == 1 else (sum(stage.shape[0] for stage in stages),)
        first = stages[0]
        vocabulary = first.columns[0].vocabulary if isinstance(first, FittedTokens) else None
        self.spec = TensorSpec("float32" if vocabulary is None else "int64", shape, vocabulary)

    @property
    def spans(self) -> tuple[FeatureSpan, ...]:
        """Which column lies where in the output; empty when the output is a tensor of two or more dimensions."""
        if len(self.spec.shape) != 1:
            return ()
        spans: list[FeatureSpan] = []
        for name, is_numeric, width in (part for stage in self.stages for part in _parts(stage)):
            start = spans[-1].stop if spans else 0
            spans.append(FeatureSpan(name, is_numeric, start, start + width))
        return tuple(spans)

    def transform(self, rows: pa.RecordBatch) -> Array:
        """The columns way: checked rows to an array [n, *shape]; each stage writes into its part of one array."""
        joined: Array = np.empty((rows.num_rows, *self.spec.shape), dtype=self.spec.dtype)
        if len(self.stages) == 1:
            self.stages[0].transform_into(rows, joined)
            return joined
        end = 0
        for stage in self.stages:
            start, end = end, end + stage.shape[0]
            stage.transform_into(rows, joined[:, start:end])
        return joined

    def transform_few(self, columns: Mapping[str, Any], num_rows: int) -> Array | None:
        """The compiled way: raw values to an array [n, *shape]; None when a stage leaves them to the columns way."""
        arrays = []
        for stage in self.stages:
            array = stage.transform_few(columns, num_rows)
            if array is None:
                return None
            arrays.append(array)
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=1)


def _parts(stage: FittedStage) -> Iterator[tuple[str, bool, int]]:
    """(column, whether its places are scaled numbers, how many) in the order of a stage's output."""
    if isinstance(stage, FittedNumeric):
        yield from ((column.name, True, 1) for column in stage.columns)
        yield from ((column.name, False, 1) for column in stage.indicated)
    else:
        (column,) = stage.columns
        yield column.name, column.kind == "tensor", stage.shape[0]
