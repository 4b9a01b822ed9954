"""The one shape every stage has: declared by its columns, fitted in one pass, then frozen and read two ways.

`Stage` is what exists before training data was seen, `FittedStage` what training leaves behind and serving uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from corelane.core.types import Array, JsonObject
from corelane.data.stages.column import Column


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One output of the pipeline: `dtype` by NumPy's name and `shape` without the row dimension.

    Tokens are int64, from 0 to below `vocabulary`; numbers have none.
    """

    dtype: str
    shape: tuple[int, ...]
    vocabulary: int | None = None


class Fitter(Protocol):
    """Gathers what a stage must know from the training rows, in one pass and bounded memory."""

    def update(self, rows: pa.RecordBatch) -> None:
        """Take one batch of checked rows."""
        ...

    def finish(self) -> FittedStage:
        """The fitted stage. Raises `DataError` when the rows cannot support one."""
        ...


class Stage(Protocol):
    """Unfitted: which columns it reads and how it will treat them."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns it reads, in order."""
        ...

    def to_json(self) -> JsonObject:
        """What decides the fit besides the data; with `"stage"` and `"version"`; it enters the pipeline's digest."""
        ...

    def fitter(self) -> Fitter:
        """A fresh fitter; a stage can be fitted any number of times."""
        ...


class FittedStage(Protocol):
    """Frozen: turns its typed columns into one array, float32, or int64 for tokens.

    Safe to use from several threads at once.
    """

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns it reads, in order."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row of its output."""
        ...

    def transform_into(self, rows: pa.RecordBatch, out: Array) -> None:
        """The columns way: checked rows into `out`, [n, *shape], maybe a part of a wider array.

        Every element is written.
        """
        ...

    def transform_few(self, columns: Mapping[str, Any], num_rows: int) -> Array | None:
        """The compiled way: raw values by column name to the same bits as check and `transform` would give.

        None when a value is refused or of a kind this way does not read (text for a number): the caller then takes
        the columns way, which accepts it or says what is wrong with it.
        """
        ...

    def to_json(self) -> JsonObject:
        """The stage as JSON data with `"stage"` and `"version"`; floats survive exactly."""
        ...
