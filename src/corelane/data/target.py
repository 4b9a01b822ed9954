"""The target: labels to numbers, or values to standardised numbers, and what is needed to turn them back.

Fitted with the pipeline on the training part (`target_fitting.py`) and stored in it; decoding of the network's outputs
is `model/decode.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corelane.core.errors import StateError
from corelane.core.types import Array, BoolArray, IntArray, JsonObject, Task
from corelane.data.stages.affine import LARGEST
from corelane.data.stages.column import shorten
from corelane.data.stages.stored import read_texts

LabelType: TypeAlias = Literal["int", "string"]

MAX_LABELS = 10_000  # a network with more outputs than this is another kind of model (retrieval), not a classifier
IS_UNSET, IS_SET = ("0", "false", "0.0"), ("1", "true", "1.0")
"""What a column may say of a row without, or with, the label of the column's name; pandas writes 1.0 beside gaps."""
UNSEEN = -1  # in the place of a label that training did not see

_VERSION = 2
_OLDER = 1  # had two tasks, of which classification gave one output for each label
_INTEGER = re.compile(r"^(0|-?[1-9][0-9]{0,17})$")  # as int() would write it, and within int64


class TargetEncoder:
    """What the `columns` of the target mean to a network for `task`. Frozen.

    Tasks with labels have `labels` in class order, `counts` of training rows that have each of them, and the number of
    training rows `num_rows`: of two labels the second is the positive one; a row may have several in multi_label, which
    its columns are named after, or which stand in one text column between `separator`. Without counts (packages of
    earlier releases) both are empty. A regression has the `mean` and `std` of the training part.

    `labels` are texts; with `label_type` "int" all of them are whole numbers, sorted as numbers.
    """

    def __init__(
        self,
        task: Task,
        columns: tuple[str, ...],
        *,
        labels: tuple[str, ...] = (),
        counts: tuple[int, ...] = (),
        num_rows: int = 0,
        mean: float = 0.0,
        std: float = 1.0,
        separator: str | None = None,
    ) -> None:
        self.task = task
        self.columns = columns
        self.labels = labels
        self.counts = counts
        self.num_rows = num_rows
        self.mean = mean
        self.std = std
        self.separator = separator
        is_int = task != "multi_label" and bool(labels) and all(map(is_whole, labels))
        self.label_type: LabelType = "int" if is_int else "string"
        self._texts = pa.array(labels, pa.string())

    @property
    def name(self) -> str:
        """What is predicted, for a person."""
        return ", ".join(self.columns)

    @property
    def num_outputs(self) -> int:
        """How many numbers the network gives per row: one per label, but one for two labels and for a value."""
        return 1 if self.task in ("binary", "regression") else len(self.labels)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the encoded target: int64 class numbers, or float32."""
        return np.dtype(np.int64 if self.task == "multi_class" else np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row of the encoded target: a number for each label where a row may have several."""
        return (len(self.labels),) if self.task == "multi_label" else ()

    def encode(self, rows: pa.RecordBatch) -> Array:
        """The target of checked `rows` [n]; a label that training did not see is `UNSEEN`.

        Binary: 0 or 1, float32 [n]. Multi-class: class numbers int64 [n]. Multi-label: 0 or 1 per label, float32
        [n, k]; a row with an unseen label is `UNSEEN` as a whole. Regression: standardised float32 [n].
        """
        if self.task == "regression":
            return self._standardise(rows.column(self.columns[0]))
        if self.task != "multi_label":
            found = pc.index_in(rows.column(self.columns[0]), value_set=self._texts, skip_nulls=True)
            return np.asarray(found.fill_null(UNSEEN).cast(pa.int64()).to_numpy(zero_copy_only=False), self.dtype)
        if self.separator is not None:
            return self._encode_joined(rows.column(self.columns[0]))
        return np.stack([is_set(rows.column(name)) for name in self.columns], axis=1).astype(np.float32)

    def is_known(self, encoded: Array) -> BoolArray:
        """Which rows of an encoded target [n, ...] have labels that training saw."""
        if self.task == "regression":
            return np.ones(len(encoded), dtype=np.bool_)
        return np.asarray((encoded != UNSEEN).reshape(len(encoded), -1).all(axis=1))

    def _standardise(self, column: pa.Array) -> Array:
        values = column.to_numpy(zero_copy_only=False)
        with np.errstate(over="ignore"):
            standardised = (values - self.mean) / self.std
        return np.asarray(np.clip(standardised, -LARGEST, LARGEST), dtype=np.float32)

    def _encode_joined(self, column: pa.Array) -> Array:
        """Each distinct text is taken apart once, however many rows hold it."""
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        place = {label: index for index, label in enumerate(self.labels)}
        rows = np.zeros((len(encoded.dictionary) + 1, len(self.labels)), dtype=np.float32)  # the last: no label
        for row, text in zip(rows, encoded.dictionary.to_pylist(), strict=False):
            for label in split_labels(text, self.separator):
                if label not in place:
                    row[:] = UNSEEN
                    break
                row[place[label]] = 1.0
        places: IntArray = encoded.indices.cast(pa.int64()).fill_null(len(rows) - 1).to_numpy(zero_copy_only=False)
        return rows[places]

    def label_array(self) -> Array:
        """The labels in class order as int64 [k] or as texts (object) [k]."""
        if self.label_type == "int":
            return np.array([int(label) for label in self.labels], dtype=np.int64)
        return np.array(self.labels, dtype=object)

    def recounted(self, found: TargetEncoder) -> TargetEncoder:
        """The same encoding, with how many of other rows, those that `found` was fitted on, have each label."""
        counts = dict(zip(found.labels, found.counts, strict=True))
        return TargetEncoder(
            self.task,
            self.columns,
            labels=self.labels,
            counts=tuple(counts.get(label, 0) for label in self.labels),
            num_rows=found.num_rows,
            mean=self.mean,
            std=self.std,
            separator=self.separator,
        )

    def to_json(self) -> JsonObject:
        """The encoder as JSON data; floats survive exactly."""
        return {
            "version": _VERSION,
            "task": self.task,
            "columns": list(self.columns),
            "label_type": self.label_type,
            "labels": list(self.labels),
            "counts": list(self.counts),
            "num_rows": self.num_rows,
            "mean": self.mean,
            "std": self.std,
            "separator": self.separator,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TargetEncoder:
        """The encoder written by `to_json`. Raises `StateError` for an unknown version or a broken field."""
        if data.get("version") not in (_OLDER, _VERSION):
            raise StateError(
                f"the version of a stored target must be {_OLDER} or {_VERSION}, got {data.get('version')!r}"
            )
        data = _renewed(data) if data["version"] == _OLDER else data
        labels, columns = read_texts(data, "labels"), read_texts(data, "columns")
        mean, std, separator = data.get("mean"), data.get("std"), data.get("separator")
        if data.get("task") not in get_args(Task) or not columns or not isinstance(separator, str | None):
            raise StateError(f"a stored target must name its task and columns, got {shorten(data)}")
        if not isinstance(mean, float) or not isinstance(std, float) or not np.isfinite(mean) or not 0.0 < std < np.inf:
            raise StateError(f"mean and std of a stored target must be finite numbers, got {mean!r} and {std!r}")
        counts, num_rows = _read_counts(data, len(labels))
        encoder = cls(
            data["task"],
            columns,
            labels=labels,
            counts=counts,
            num_rows=num_rows,
            mean=mean,
            std=std,
            separator=separator,
        )
        if data.get("label_type") != encoder.label_type or not _fits(encoder):
            raise StateError(f"labels of a stored target must be those of a {encoder.task} target, got {shorten(data)}")
        return encoder


def is_whole(label: str) -> bool:
    """Whether a label is a whole number, as `int()` would write it."""
    return _INTEGER.match(label) is not None


def is_set(column: pa.Array) -> Array:
    """Which rows of a checked column of the target have the label of its name, bool [n]."""
    return np.asarray(pc.is_in(column, value_set=pa.array(IS_SET)).to_numpy(zero_copy_only=False))


def split_labels(text: str, separator: str | None) -> set[str]:
    """The labels in one cell; spaces around them do not count, and nothing between two separators is no label."""
    return {label.strip() for label in text.split(separator)} - {""}


def _renewed(data: Mapping[str, Any]) -> JsonObject:
    """What an earlier release wrote, as this one writes it: its network keeps an output for each of two labels."""
    task = "multi_class" if data.get("task") == "classification" else data.get("task")
    return {**data, "task": task, "columns": [data.get("column")], "counts": [], "num_rows": 0, "separator": None}


def _read_counts(data: Mapping[str, Any], num_labels: int) -> tuple[tuple[int, ...], int]:
    counts, num_rows = data.get("counts"), data.get("num_rows")
    if not isinstance(counts, list) or len(counts) not in (0, num_labels) or not all(map(_is_count, counts)):
        raise StateError(f"counts of a stored target must be whole numbers, one per label, got {shorten(counts)}")
    if not isinstance(num_rows, int) or not _is_count(num_rows):
        raise StateError(f"num_rows of a stored target must be a whole number, got {shorten(num_rows)}")
    return tuple(counts), num_rows


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _fits(encoder: TargetEncoder) -> bool:
    """Whether there are as many labels and columns as the task has."""
    num_labels, is_named = len(encoder.labels), encoder.columns == encoder.labels
    match encoder.task:
        case "binary":
            return num_labels == 2
        case "multi_class":
            return num_labels >= 2
        case "multi_label":
            return num_labels >= 1 and (is_named or encoder.separator is not None)
        case "regression":
            return num_labels == 0
