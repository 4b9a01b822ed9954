"""What was seen of one raw column, in one bounded pass: how many values are present, how many are numbers, which
shape they have, and for a target which labels. It counts; `infer.py` decides what the counts mean.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corelane.core.errors import DataError
from corelane.data.stages.cast_date import looks_like_dates
from corelane.data.stages.cast_image import ImageRefusedError, inspect_image
from corelane.data.stages.cast_numeric import MISSING_TEXTS, is_number, is_text, parse_numbers
from corelane.data.stages.cast_tensor import is_list
from corelane.data.stages.cast_text import canonical_text
from corelane.data.stages.cells import python_values
from corelane.data.target import MAX_LABELS

NUMERIC_SHARE = 0.9  # of the present values: a tenth of a column is more than stray cells


class ColumnProfile:
    """What was seen of one column; owns counts and a bounded set of labels and nothing else.

    A `declared` category is a value, also one that is written like a missing one, as NA for Namibia is.
    """

    def __init__(
        self, name: str, is_target: bool, *, trims: bool = True, declared: Collection[str] = frozenset()
    ) -> None:
        self.name = name
        self.physical: pa.DataType = pa.null()
        self.num_present = 0
        self.num_numbers = 0
        self.num_dates = 0
        self.are_integers = True
        self.labels: set[str] = set()
        self.image: tuple[int, int, int] | None = None
        self.shape: tuple[int, ...] | None = None
        self._is_target = is_target
        self._trims = trims
        self._declared = frozenset(declared)
        self._missing = pa.array(sorted(MISSING_TEXTS - self._declared), pa.string())

    def update(self, values: pa.Array) -> None:
        """Take the column's part of one batch."""
        if pa.types.is_dictionary(values.type):
            if is_text(values.type.value_type):
                self.physical = values.type.value_type
                self._update_encoded(values)
                return
            values = values.dictionary_decode()
        self.physical = values.type
        if is_text(values.type):
            self._update_text(values)
            return
        if not self._is_target and is_number(values.type) and not pa.types.is_boolean(values.type):
            self._count_numbers(values)
            return
        if is_scalar(values.type):
            self._update_scalars(values)
            return
        self.num_present += len(values) - values.null_count
        if self.num_present and self.shape is None and self.image is None:
            self._look_at(values)

    def _count_numbers(self, values: pa.Array) -> None:
        """As `_update_scalars`, where their number is all that is asked for."""
        num_absent = values.null_count
        if pa.types.is_floating(values.type):
            num_absent += pc.sum(pc.is_nan(values)).as_py() or 0
        self.num_present += len(values) - num_absent
        self.num_numbers += len(values) - num_absent

    def _update_encoded(self, values: pa.Array) -> None:
        """As `_update_text`, from how often each of the dictionary's texts occurs."""
        counts = np.bincount(values.indices.drop_null().to_numpy(), minlength=len(values.dictionary))
        texts = values.dictionary.cast(pa.string())
        trimmed = pc.utf8_trim_whitespace(texts)
        is_absent = pc.is_in(trimmed, value_set=self._missing).to_numpy(zero_copy_only=False)
        is_present = (counts > 0) & ~is_absent & trimmed.is_valid().to_numpy(zero_copy_only=False)
        present, counts = trimmed.filter(pa.array(is_present)), counts[is_present]
        numbers, _ = parse_numbers(present)
        is_number = numbers.is_valid().to_numpy(zero_copy_only=False)
        self.num_present += int(counts.sum())
        self._update_numbers(numbers.drop_null(), int(counts[is_number].sum()))
        if not self.is_numeric and looks_like_dates(present):
            self.num_dates += looks_like_dates(present.take(pa.array(np.repeat(np.arange(len(counts)), counts))))
        self._collect_labels(present if self._trims else texts.filter(pa.array(is_present)))

    def _update_text(self, values: pa.Array) -> None:
        texts = values.cast(pa.string()).drop_null()
        trimmed = pc.utf8_trim_whitespace(texts)
        is_present = pc.invert(pc.is_in(trimmed, value_set=self._missing))
        present = trimmed.filter(is_present)
        self.num_present += len(present)
        numbers, _ = parse_numbers(present)
        numbers = numbers.drop_null()
        self._update_numbers(numbers, len(numbers))
        if not self.is_numeric:
            self.num_dates += looks_like_dates(present)
        self._collect_labels(present if self._trims else texts.filter(is_present))

    def _update_scalars(self, values: pa.Array) -> None:
        present = values.drop_null()
        if pa.types.is_floating(present.type):
            present = present.filter(pc.invert(pc.is_nan(present)))
        self.num_present += len(present)
        if is_number(present.type) and not pa.types.is_boolean(present.type):
            self._update_numbers(present.cast(pa.float64(), safe=False), len(present))
        if pa.types.is_timestamp(present.type) or pa.types.is_date(present.type):
            self.num_dates += len(present)
        self._collect_labels(present)

    def _update_numbers(self, numbers: pa.Array, num_rows: int) -> None:
        """Take `numbers`, each distinct one at least once, that `num_rows` rows hold."""
        self.num_numbers += num_rows
        if self._is_target and self.are_integers:
            values = numbers.to_numpy(zero_copy_only=False)
            self.are_integers = bool((values == np.floor(values)).all() and np.isfinite(values).all())

    def _collect_labels(self, present: pa.Array) -> None:
        if self._is_target and len(self.labels) <= MAX_LABELS:
            labels = (self._label(value) for value in python_values(pc.unique(present)))
            self.labels.update(label for label in labels if label is not None)

    def _label(self, value: object) -> str | None:
        """The text that the cast will make of a label; None where it will refuse the row."""
        if isinstance(value, str) and value in self._declared:
            return value
        try:
            return canonical_text(value, trim=self._trims)
        except TypeError:
            return None

    def _look_at(self, values: pa.Array) -> None:
        """The shape of tensors, and of the first image that can be read."""
        if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
            self.image = _first_image(self.name, values.drop_null())
        elif isinstance(values.type, pa.FixedShapeTensorType):
            self.shape = tuple(values.type.shape)
        elif is_list(values.type):
            self.shape = _list_shape(values.drop_null()[0].as_py())

    @property
    def is_settled(self) -> bool:
        """Whether further values cannot change what the column is: a feature of a numeric type that has one."""
        is_typed = is_number(self.physical) and not pa.types.is_boolean(self.physical)
        return is_typed and not self._is_target and self.num_present > 0

    @property
    def is_numeric(self) -> bool:
        """Whether nearly all present values are numbers."""
        return self.num_present > 0 and self.num_numbers >= NUMERIC_SHARE * self.num_present

    @property
    def is_date(self) -> bool:
        """Whether nearly all present values are dates."""
        return self.num_present > 0 and self.num_dates >= NUMERIC_SHARE * self.num_present


def is_scalar(kind: pa.DataType) -> bool:
    """Whether a cell of Arrow type `kind` is one text, number, boolean or time."""
    is_time = pa.types.is_temporal(kind) and not pa.types.is_interval(kind)
    return is_text(kind) or is_number(kind) or bool(is_time)


def _first_image(name: str, present: pa.Array) -> tuple[int, int, int]:
    reason = ""
    for data in present.to_pylist()[:100]:  # one broken file must not decide; a hundred say that these are no images
        try:
            return inspect_image(data)
        except ImageRefusedError as error:
            reason = reason or str(error)
    raise DataError(f"{name} must hold images, got none among its first values; the first of them {reason}")


def _list_shape(value: Any) -> tuple[int, ...]:
    """The shape of a nested list along its first elements; rows that differ are rejected one by one later."""
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)
