"""One categorical column: each text becomes a one-hot row or an ordinal number; slot 0 is the unknown bucket.

The bucket holds what training did not know: missing values, texts never seen, and the rare ones beyond
`max_categories`. In: string column, null = missing. Out: float32 [n, 1 + k] (one-hot) or [n, 1] (ordinal: slot / k, in
0..1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corelane.core.types import FloatArray, IntArray, JsonObject
from corelane.data.stages.cast_text import CategoryReader
from corelane.data.stages.column import Column
from corelane.data.stages.stored import check_version, read_choice, read_texts

Encoding = Literal["one_hot", "ordinal"]

MAX_COUNTED = 1 << 17  # distinct texts counted while fitting; an identifier column's later ones share the bucket

_VERSION = 1


@dataclass(frozen=True, slots=True)
class CategoricalStage:
    """A categorical column before training data was seen."""

    column: Column
    encoding: Encoding
    max_categories: int

    @property
    def columns(self) -> tuple[Column, ...]:
        """The one column it reads."""
        return (self.column,)

    def to_json(self) -> JsonObject:
        """What decides the fit besides the data."""
        return {
            "stage": "categorical",
            "version": _VERSION,
            "columns": [self.column.name],
            "encoding": self.encoding,
            "max_categories": self.max_categories,
        }

    def fitter(self) -> CategoricalFitter:
        """A fresh fitter."""
        return CategoricalFitter(self)


class CategoricalFitter:
    """Owns the counts of a column's texts and nothing else."""

    def __init__(self, stage: CategoricalStage) -> None:
        self._stage = stage
        self._counts: Counter[str] = Counter()

    def update(self, rows: pa.RecordBatch) -> None:
        """Take one batch of checked rows."""
        if self._stage.column.categories is not None:
            return
        for entry in pc.value_counts(rows.column(self._stage.column.name)).to_pylist():
            text = entry["values"]
            if text is not None and (text in self._counts or len(self._counts) < MAX_COUNTED):
                self._counts[text] += entry["counts"]

    def finish(self) -> FittedCategorical:
        """The fitted column: declared categories in their order, else the most frequent texts, sorted."""
        declared = self._stage.column.categories
        if declared is not None:
            return FittedCategorical(self._stage.column, declared, self._stage.encoding)
        frequent = sorted(self._counts, key=lambda text: (-self._counts[text], text))[: self._stage.max_categories]
        return FittedCategorical(self._stage.column, tuple(sorted(frequent)), self._stage.encoding)


class FittedCategorical:
    """A categorical column that knows its texts; frozen."""

    def __init__(self, column: Column, categories: tuple[str, ...], encoding: Encoding) -> None:
        self.columns = (column,)
        self.categories = categories
        self.encoding = encoding
        self._name = column.name
        self._slots = {text: slot for slot, text in enumerate(categories, start=1)}
        self._reader = CategoryReader(column)
        self.shape = (len(categories) + 1,) if encoding == "one_hot" else (1,)
        self._texts = pa.array(categories, pa.string())

    def transform(self, rows: pa.RecordBatch) -> FloatArray:
        """The columns way: checked rows to float32 [n, *shape]."""
        found = pc.index_in(rows.column(self._name), value_set=self._texts)
        slots: IntArray = found.fill_null(-1).to_numpy(zero_copy_only=False) + 1
        return self._encode(slots)

    def transform_few(self, columns: Mapping[str, Any], num_rows: int) -> FloatArray | None:
        """The compiled way; None when a value is refused."""
        values = columns[self._name]
        slots = [self._slot(value) for value in values]
        if len(slots) != num_rows or None in slots:
            return None
        return self._encode(np.array(slots, dtype=np.int64))

    def _slot(self, value: object) -> int | None:
        """The slot of a raw value, 0 for the unknown bucket, None when it is refused."""
        try:
            return self._slots[value]  # type: ignore[index]
        except (KeyError, TypeError):  # not a text of the training part as it stands, or nothing that could be one
            text, is_taken = self._reader.read(value)
            return self._slots.get(text or "", 0) if is_taken else None

    def _encode(self, slots: IntArray) -> FloatArray:
        if self.encoding == "ordinal":
            return (slots[:, None] / max(len(self.categories), 1)).astype(np.float32)
        encoded = np.zeros((len(slots), *self.shape), dtype=np.float32)
        encoded[np.arange(len(slots)), slots] = 1.0
        return encoded

    def to_json(self) -> JsonObject:
        """The column as JSON data."""
        return {
            "stage": "categorical",
            "version": _VERSION,
            "columns": [self.columns[0].name],
            "categories": list(self.categories),
            "encoding": self.encoding,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], columns: tuple[Column, ...]) -> FittedCategorical:
        """The column written by `to_json`, of `columns`. Raises `StateError` for another version or a broken field."""
        check_version(data, _VERSION)
        (column,) = columns
        encoding = read_choice(data, "encoding", ("one_hot", "ordinal"))
        return cls(column, read_texts(data, "categories"), cast(Encoding, encoding))
