"""Small schemas, rows and pictures that the tests of this room share. Not a test itself."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from corelane.core.types import Array, FloatArray
from corelane.data.config import PipelineConfig
from corelane.data.pipeline import Pipeline
from corelane.data.schema import Column, Schema
from corelane.data.stages.cast_tensor import tensor_array
from corelane.data.stages.protocol import FittedStage

LABEL = Column("label", "categorical", nullable=False)


def batch(columns: Mapping[str, Any]) -> pa.RecordBatch:
    """A record batch of lists, NumPy arrays (two and more dimensions: tensors) or Arrow arrays."""
    return pa.RecordBatch.from_arrays([arrow(values) for values in columns.values()], names=list(columns))


def arrow(values: Any) -> pa.Array:
    """One raw column as a source would give it."""
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, np.ndarray) and values.ndim > 1:
        return tensor_array(values)
    return pa.array(values)


def fitted(columns: list[Column], rows: Mapping[str, Any], /, **config: Any) -> Pipeline:
    """A pipeline over `columns`, fitted on `rows` with two labels taking turns."""
    first = next(iter(rows.values()))
    raw = batch({**rows, "label": [("no", "yes")[index % 2] for index in range(len(first))]})
    schema = Schema(tuple(columns), (LABEL,), "classification")
    checked = schema.check(raw, needs_target=True)
    return Pipeline.build(schema, PipelineConfig(**config)).fit([checked.rows])


def transformed(stage: FittedStage, rows: pa.RecordBatch) -> FloatArray:
    """A fitted stage's columns way into an array of its own, which holds NaN wherever the stage wrote nothing."""
    out = np.full((rows.num_rows, *stage.shape), np.nan, dtype=np.float32)
    stage.transform_into(rows, out)
    return out


def picture(height: int, width: int, channels: int, seed: int = 0) -> Array:
    """Random pixels uint8 [h, w] or [h, w, 3]."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels: Array, kind: str = "PNG", **options: Any) -> bytes:
    """Pixels as an image file's bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()
