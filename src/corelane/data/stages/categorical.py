"""One categorical column: each text becomes a one-hot row, an ordinal number, or a hash bucket; slot 0 is the unknown
bucket.

The unknown bucket holds what training did not know: missing values (unless another text is put in their place), texts
never seen, and the rare ones beyond `max_categories`. With hashing it holds missing values only, and every text has the
slot 1 + CRC-32 of its UTF-8 bytes modulo the number of buckets (ISO 3309, as in gzip: the same everywhere, for ever).
In: string column, plain or dictionary-encoded, null = missing. Out: float32 [n, 1 + k] (one-hot, hashing) or [n, 1]
(ordinal: slot / k, in 0..1).
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corelane.core.errors import StateError
from corelane.core.types import FloatArray, IntArray, JsonObject
from corelane.data.stages.cast_text import CategoryReader
from corelane.data.stages.column import Column, shorten
from corelane.data.stages.stored import check_version, read_choice, read_texts

Encoding: TypeAlias = Literal["one_hot", "ordinal", "hashing"]
TextImputation: TypeAlias = Literal["bucket", "mode", "constant"]

MAX_COUNTED = 1 << 17  # distinct texts counted while fitting; an identifier column's later ones share the bucket
MAX_BUCKETS = 1 << 16

_VERSION = 2
_WIDE_BITS = 32  # an index of so many counts further than any dictionary in memory


@dataclass(frozen=True, slots=True)
class CategoricalStage:
    """A categorical column before training data was seen.

    A missing value goes to the unknown bucket, or stands for the most frequent text or for `fill_text`.
    """

    column: Column
    encoding: Encoding
    max_categories: int
    num_buckets: int = 64
    imputation: TextImputation = "bucket"
    fill_text: str = ""

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
            "num_buckets": self.num_buckets,
            "imputation": self.imputation,
            "fill_text": self.fill_text,
        }

    def fitter(self) -> CategoricalFitter:
        """A fresh fitter."""
        return CategoricalFitter(self)


class CategoricalFitter:
    """Owns the counts of a column's texts and nothing else."""

    def __init__(self, stage: CategoricalStage) -> None:
        self._stage = stage
        self._counts: Counter[str] = Counter()
        has_categories = stage.encoding == "hashing" or stage.column.categories is not None
        self._is_counted = not has_categories or stage.imputation == "mode"
        self._fill_text = stage.fill_text if stage.imputation == "constant" else None

    def update(self, rows: pa.RecordBatch) -> None:
        """Take one batch of checked rows."""
        if not self._is_counted:
            return
        texts = rows.column(self._stage.column.name)
        if pa.types.is_dictionary(texts.type) and len(self._counts) + len(texts.dictionary) > MAX_COUNTED:
            texts = texts.dictionary_decode()  # which texts are too many is decided in the order of rows
        for text, count in counted_texts(texts):
            known = self._fill_text if text is None else text
            if known is not None and (known in self._counts or len(self._counts) < MAX_COUNTED):
                self._counts[known] += count

    def finish(self) -> FittedCategorical:
        """The fitted column: declared categories in their order, else the most frequent texts, sorted."""
        stage = self._stage
        by_count = sorted(self._counts, key=lambda text: (-self._counts[text], text))
        categories = stage.column.categories
        if stage.encoding == "hashing":
            categories = ()
        elif categories is None:
            categories = tuple(sorted(by_count[: stage.max_categories]))
        missing = by_count[0] if stage.imputation == "mode" and by_count else self._fill_text
        return FittedCategorical(stage.column, categories, stage.encoding, stage.num_buckets, missing)


class FittedCategorical:
    """A categorical column that knows its texts, or how many buckets there are; frozen.

    `missing` is the text that stands for a missing value, None for the unknown bucket.
    """

    def __init__(
        self,
        column: Column,
        categories: tuple[str, ...],
        encoding: Encoding,
        num_buckets: int = 64,
        missing: str | None = None,
    ) -> None:
        self.columns = (column,)
        self.categories = categories
        self.encoding = encoding
        self.num_buckets = num_buckets
        self.missing = missing
        self._name = column.name
        self._slots = {text: slot for slot, text in enumerate(categories, start=1)}
        self._reader = CategoryReader(column)
        self._missing_slot = 0 if missing is None else self._known_slot(missing)
        num_slots = 1 + (num_buckets if encoding == "hashing" else len(categories))
        self.shape = (1,) if encoding == "ordinal" else (num_slots,)
        self._levels: FloatArray = (np.arange(num_slots) / max(num_slots - 1, 1)).astype(np.float32)
        self._texts = pa.array(categories, pa.string())

    def transform_into(self, rows: pa.RecordBatch, out: FloatArray) -> None:
        """The columns way: checked rows into float32 [n, *shape]."""
        self._encode(self._find(rows.column(self._name)), out)

    def transform_few(self, columns: Mapping[str, Any], num_rows: int) -> FloatArray | None:
        """The compiled way; None when a value is refused."""
        values = columns[self._name]
        slots = [self._slot(value) for value in values]
        if len(slots) != num_rows or None in slots:
            return None
        encoded = np.empty((num_rows, *self.shape), dtype=np.float32)
        self._encode(np.array(slots, dtype=np.int64), encoded)
        return encoded

    def _find(self, texts: pa.Array) -> IntArray:
        """The slots of checked texts [n]. Each distinct one is looked up once where the column is encoded so."""
        if pa.types.is_dictionary(texts.type) and len(texts.dictionary) > len(texts):
            texts = texts.dictionary_decode()
        if self.encoding == "hashing" and not pa.types.is_dictionary(texts.type):
            texts = texts.dictionary_encode()
        if pa.types.is_dictionary(texts.type):
            slots = np.append(self._find_distinct(texts.dictionary), self._missing_slot)
            return np.asarray(slots.take(_places(texts)))
        slots = self._find_distinct(texts)
        if self._missing_slot and texts.null_count:
            slots[texts.is_null().to_numpy(zero_copy_only=False)] = self._missing_slot
        return slots

    def _find_distinct(self, texts: pa.Array) -> IntArray:
        if self.encoding == "hashing":
            return np.array([self._known_slot(text) for text in texts.to_pylist()], dtype=np.int64)
        found = pc.index_in(texts, value_set=self._texts)
        return np.asarray(found.fill_null(-1).to_numpy(zero_copy_only=False) + 1)

    def _slot(self, value: object) -> int | None:
        """The slot of a raw value, 0 for the unknown bucket, None when it is refused."""
        try:
            return self._slots[value]  # type: ignore[index]
        except (KeyError, TypeError):  # not a text of the training part as it stands, or nothing that could be one
            text, is_taken = self._reader.read(value)
            if not is_taken:
                return None
            return self._missing_slot if text is None else self._known_slot(text)

    def _known_slot(self, text: str) -> int:
        """The slot of a category's text."""
        if self.encoding == "hashing":
            return 1 + zlib.crc32(text.encode()) % self.num_buckets
        return self._slots.get(text, 0)

    def _encode(self, slots: IntArray, out: FloatArray) -> None:
        """Slots [n] into [n, *shape]."""
        if self.encoding == "ordinal":
            out[:, 0] = self._levels.take(slots)
        else:
            out[...] = 0.0
            out[np.arange(len(slots)), slots] = 1.0

    def to_json(self) -> JsonObject:
        """The column as JSON data."""
        return {
            "stage": "categorical",
            "version": _VERSION,
            "columns": [self.columns[0].name],
            "categories": list(self.categories),
            "encoding": self.encoding,
            "num_buckets": self.num_buckets,
            "missing": self.missing,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], columns: tuple[Column, ...]) -> FittedCategorical:
        """The column written by `to_json`, of `columns`. Raises `StateError` for another version or a broken field."""
        check_version(data, _VERSION)
        (column,) = columns
        encoding = cast(Encoding, read_choice(data, "encoding", get_args(Encoding)))
        num_buckets, missing = data.get("num_buckets"), data.get("missing")
        if type(num_buckets) is not int or not 1 <= num_buckets <= MAX_BUCKETS:
            raise StateError(
                f"num_buckets of a stored stage must be from 1 to {MAX_BUCKETS}, got {shorten(num_buckets)}"
            )
        if missing is not None and not isinstance(missing, str):
            raise StateError(f"missing of a stored stage must be a text or null, got {shorten(missing)}")
        return cls(column, read_texts(data, "categories"), encoding, num_buckets, missing)


def counted_texts(texts: pa.Array) -> Iterable[tuple[str | None, int]]:
    """Each distinct text and how often it occurs; a null may be among them."""
    if pa.types.is_dictionary(texts.type):
        num_texts = len(texts.dictionary)
        counts = np.bincount(_places(texts), minlength=num_texts + 1).tolist()
        counted = zip([*texts.dictionary.to_pylist(), None], counts, strict=True)
        return [(text, count) for text, count in counted if count]
    found = pc.value_counts(texts)
    return zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True)


def _places(texts: pa.DictionaryArray) -> IntArray:
    """Where each of `texts` [n] lies in their dictionary; one past its end for a null."""
    places = texts.indices
    if texts.null_count:
        if places.type.bit_width < _WIDE_BITS:
            places = places.cast(pa.int32())  # a narrow type may count to the last text and no further
        places = places.fill_null(len(texts.dictionary))
    return np.asarray(places.to_numpy())
