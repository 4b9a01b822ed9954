"""Raw cells to category texts: trimmed strings with null for missing, and a verdict on what cannot be a category.

Booleans become "true" and "false" (as text in any case, too), whole numbers lose a trailing ".0" and decimal ones their
trailing zeros, so that a category is the same whether Parquet, a database or JSON gave it. Text stays as it is: "1.0"
in a CSV is another category than 1. Each distinct value is looked at once, however many rows hold it.
"""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corelane.core.types import BoolArray
from corelane.data.stages.cast_numeric import MISSING_TEXTS, is_number, is_text
from corelane.data.stages.cells import python_value, python_values
from corelane.data.stages.column import Cast, Column, Verdict, missing, shorten
from corelane.data.stages.pattern import matches

MAX_TEXT_LENGTH = 1000  # a longer text is a document, not a category

_BOOLEANS = {"true": "true", "false": "false"}


def canonical_text(value: object, *, trim: bool = True) -> str | None:
    """The one text of a category value, or None when it is missing; with `trim`, spaces around a text do not count.

    Raises `TypeError` for what is no scalar (a list, a mapping, bytes).
    """
    if isinstance(value, str):
        text = value.strip() if trim else value
        return None if text in MISSING_TEXTS else _BOOLEANS.get(text.lower(), text)
    if value is None:
        return None
    if isinstance(value, decimal.Decimal):
        value = _plain_number(value)
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        if abs(int(value)).bit_length() > 3 * MAX_TEXT_LENGTH:  # Python refuses to write very long numbers out
            raise TypeError("a category must be a short number, got one of very many digits")
        return str(int(value))
    if isinstance(value, float | np.floating):
        number = float(value)
        if math.isnan(number):
            return None
        return str(int(number)) if number.is_integer() else repr(number)
    if isinstance(value, datetime.date | datetime.time | datetime.timedelta):
        return str(value)
    raise TypeError(f"a category must be text, a number or a boolean, got {type(value).__name__}")


def _plain_number(value: decimal.Decimal) -> int | float:
    """The number that another source gives for a decimal one; of many digits behind the point float64 keeps its own."""
    if value.is_nan():
        return math.nan
    if value.is_infinite() or value != value.to_integral_value():
        return float(value)
    if value.adjusted() > MAX_TEXT_LENGTH:
        raise TypeError("a category must be a short number, got one of very many digits")
    return int(value)


class CategoryReader:
    """What a categorical column makes of one value: its text, and whether the column takes it."""

    def __init__(self, column: Column) -> None:
        self._column = column
        self._declared = None if column.categories is None else frozenset(column.categories)
        self._untaken = (None, column.unreadable == "missing")

    def read(self, value: object) -> tuple[str | None, bool]:
        """(text or None when missing, whether it is taken). A declared "NA" is a category and not a missing value."""
        text, is_taken = self._read(value)
        pattern = self._column.pattern
        if text is not None and is_taken and pattern is not None:
            is_taken = bool(matches(pattern, pa.array([text]))[0])
        return (text, True) if is_taken else self._untaken

    def read_all(self, values: Iterable[object]) -> tuple[pa.Array, BoolArray]:
        """`read` of many values: their texts [n], null where missing, and which of them are taken [n]."""
        read = [self._read(value) for value in values]
        fits = np.array([is_taken for _, is_taken in read], dtype=np.bool_)
        texts = pa.array([text if is_taken else None for text, is_taken in read], pa.string())
        if self._column.pattern is not None:
            fits &= matches(self._column.pattern, texts)
        if fits.all():
            return texts, fits
        return pc.if_else(pa.array(fits), texts, pa.scalar(None, pa.string())), fits | self._untaken[1]

    def _read(self, value: object) -> tuple[str | None, bool]:
        """`read` but for the pattern."""
        declared, trim = self._declared, self._column.trim
        if declared is not None and isinstance(value, str):
            stripped = value.strip() if trim else value
            if stripped in declared:
                return stripped, True
        try:
            text = canonical_text(value, trim=trim)
        except TypeError:
            return None, False
        if text is None:
            return None, self._column.nullable
        if declared is not None:
            return text, text in declared
        return text, len(text) <= MAX_TEXT_LENGTH and is_unicode(text)

    def explain(self, value: object) -> Verdict:
        """Why `value` is not taken; for refused values only."""
        name, known, pattern = self._column.name, self._column.categories, self._column.pattern
        try:
            text = canonical_text(value, trim=self._column.trim)
        except TypeError:
            return Verdict("not_text", f"{name} must be text, a number or a boolean, got {shorten(value)}")
        if text is None:
            return missing(self._column)
        if not is_unicode(text):
            return Verdict("not_text", f"{name} must be Unicode text, got half of a surrogate pair in {shorten(value)}")
        if known is not None:
            shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
            return Verdict("unknown_category", f"{name} must be one of {shown}, got {shorten(value)}")
        if len(text) > MAX_TEXT_LENGTH:
            return Verdict("too_long", f"{name} must have at most {MAX_TEXT_LENGTH} characters, got {len(text)}")
        return Verdict("no_match", f"{name} must match the pattern {shorten(pattern)}, got {shorten(value)}")


def is_unicode(text: str) -> bool:
    """Whether `text` can be written as UTF-8: JSON can smuggle in half a surrogate pair, which Arrow cannot hold."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def cast_text(column: Column, raw: pa.Array) -> Cast:
    """Cast a raw column [n] of text, numbers, booleans or times to string [n], null where missing.

    A dictionary stays one where each of its values has a text: whoever reads it looks at each distinct text once.
    With declared categories a text outside them is refused; without, any text up to `MAX_TEXT_LENGTH` that matches the
    column's pattern is taken.
    """
    reader = CategoryReader(column)
    if not _is_scalar(raw.type):
        bad = np.full(len(raw), column.unreadable != "missing")
        return Cast(
            pa.nulls(len(raw), pa.string()),
            bad if bad.any() else None,
            lambda row: reader.explain(python_value(raw[row])),
        )
    encoded = raw if pa.types.is_dictionary(raw.type) else raw.dictionary_encode()
    texts, fits = reader.read_all(python_values(encoded.dictionary))
    if encoded is raw and not texts.null_count:
        values: pa.Array = pa.DictionaryArray.from_arrays(encoded.indices, texts, safe=False)  # they fit already
    else:
        values = texts.take(encoded.indices)
    bad_rows = _spread(fits, encoded.indices, nullable=column.nullable)
    return Cast(values, bad_rows, lambda row: reader.explain(python_value(raw[row])))


def _is_scalar(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_scalar(kind.value_type)
    return is_text(kind) or is_number(kind) or pa.types.is_temporal(kind) or pa.types.is_null(kind)


def _spread(fits: BoolArray, indices: pa.Array, *, nullable: bool) -> BoolArray | None:
    """The verdict of each distinct value [k] onto the rows [n]; a null row is bad unless the column is nullable."""
    if fits.all() and (nullable or indices.null_count == 0):
        return None
    table = np.append(~fits, not nullable)
    return np.asarray(table[indices.cast(pa.int64()).fill_null(len(fits)).to_numpy(zero_copy_only=False)])
