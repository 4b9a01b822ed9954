"""Named outputs of a pipeline, each a row of stages side by side: the only place that joins stages, in both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa

from corelane.core.types import FloatArray
from corelane.data.stages.protocol import FittedStage, TensorSpec


@dataclass(frozen=True, slots=True)
class FeatureSpan:
    """The places `start` to `stop` (exclusive) that one source column takes in an output of vectors."""

    column: str
    is_numeric: bool
    start: int
    stop: int


class Block:
    """One output: a single stage's array as it is, or several stages' vectors concatenated. Frozen."""

    def __init__(self, name: str, stages: tuple[FittedStage, ...]) -> None:
        self.name = name
        self.stages = stages
        shape = stages[0].shape if len(stages) == 1 else (sum(stage.shape[0] for stage in stages),)
        self.spec = TensorSpec("float32", shape)

    @property
    def spans(self) -> tuple[FeatureSpan, ...]:
        """Which column lies where in the output; empty when the output is a tensor of two or more dimensions."""
        if len(self.spec.shape) != 1:
            return ()
        spans: list[FeatureSpan] = []
        for stage in self.stages:
            width = stage.shape[0] // len(stage.columns)
            for column in stage.columns:
                start = spans[-1].stop if spans else 0
                spans.append(FeatureSpan(column.name, column.kind != "categorical", start, start + width))
        return tuple(spans)

    def transform(self, rows: pa.RecordBatch) -> FloatArray:
        """The columns way: checked rows to float32 [n, *shape]."""
        return _join([stage.transform(rows) for stage in self.stages])

    def transform_few(self, columns: Mapping[str, Any], num_rows: int) -> FloatArray | None:
        """The compiled way: raw values to float32 [n, *shape]; None when a stage leaves them to the columns way."""
        arrays = []
        for stage in self.stages:
            array = stage.transform_few(columns, num_rows)
            if array is None:
                return None
            arrays.append(array)
        return _join(arrays)


def _join(arrays: list[FloatArray]) -> FloatArray:
    return arrays[0] if len(arrays) == 1 else cast(FloatArray, np.concatenate(arrays, axis=1))
