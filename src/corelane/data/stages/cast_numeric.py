"""Raw cells to numbers: float64 with null for missing, and a verdict on each cell that is no number or out of bounds.

Text is parsed by Arrow (correctly rounded, independent of the locale) after trimming spaces. What counts as missing is
`MISSING_TEXTS`, null and NaN; infinities are refused, because one of them makes a mean and every output after it
useless.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corelane.core.types import BoolArray
from corelane.data.stages.affine import Float64Array
from corelane.data.stages.cells import python_value
from corelane.data.stages.column import Cast, Column, Verdict, missing, shorten

MISSING_TEXTS = frozenset({"", "NA", "N/A", "na", "n/a", "NaN", "nan", "NULL", "Null", "null"})
"""Texts that stand for "no value", after trimming spaces; the usual exports of R, pandas and SQL clients write these.
"""

NUMBER_PATTERN = r"^[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|(?i:inf|infinity))$"
_NUMBER = re.compile(NUMBER_PATTERN, re.ASCII)  # as Arrow reads it: else a dotless i would be an i
_MISSING = pa.array(sorted(MISSING_TEXTS))
_FLOATS = {pa.float64(): np.float64, pa.float32(): np.float32}


def is_text(kind: pa.DataType) -> bool:
    """Whether Arrow type `kind` holds text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether Arrow type `kind` holds numbers; booleans count as 0 and 1."""
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )


def parse_numbers(text: pa.Array) -> tuple[pa.Array, BoolArray | None]:
    """Text [n] to float64 [n] (null where missing or no number), and which cells are neither missing nor a number."""
    trimmed = pc.utf8_trim_whitespace(text.cast(pa.string()))
    present = pc.if_else(pc.is_in(trimmed, value_set=_MISSING), pa.scalar(None, pa.string()), trimmed)
    is_plain = pc.fill_null(pc.match_substring_regex(present, NUMBER_PATTERN), True)
    if pc.all(is_plain).as_py() is not False:
        return present.cast(pa.float64()), None
    plain = pc.if_else(is_plain, present, pa.scalar(None, pa.string()))
    return plain.cast(pa.float64()), ~is_plain.to_numpy(zero_copy_only=False)


def float64_of(numbers: pa.Array) -> pa.Array:
    """Arrow numbers [n] of any type as float64 [n], each the nearest one there is."""
    if pa.types.is_decimal(numbers.type):
        numbers = numbers.cast(pa.string())  # Arrow's own way divides by a power of ten, and is off in the last bit
    elif pa.types.is_boolean(numbers.type):
        numbers = numbers.cast(pa.uint8())
    return numbers.cast(pa.float64(), safe=False)


def cast_numeric(column: Column, raw: pa.Array) -> Cast:
    """Cast a raw column [n] of text, numbers, decimals or booleans to float64 [n], null where missing."""
    plain = _plain(column, raw)
    if plain is not None:
        return Cast(plain, None, lambda row: explain_number(column, raw[row].as_py()))
    if pa.types.is_dictionary(raw.type):
        raw = raw.dictionary_decode()
    unparsed: BoolArray | None = None
    if is_text(raw.type):
        numbers, unparsed = parse_numbers(raw)
    elif is_number(raw.type):
        numbers = float64_of(raw)
    elif pa.types.is_null(raw.type):
        numbers = raw.cast(pa.float64())
    else:
        numbers = pa.nulls(len(raw), pa.float64())
        unparsed = np.ones(len(raw), dtype=np.bool_)
    values = numbers.to_numpy(zero_copy_only=False)
    if column.unreadable == "missing":
        unparsed = None  # it is NaN already
    values = clean_numbers(column, values)
    absent = np.isnan(values)
    bad = _refused(column, values, absent, unparsed)
    typed = pa.array(values, pa.float64(), mask=absent)
    return Cast(typed, bad, lambda row: explain_number(column, python_value(raw[row])))


def _plain(column: Column, raw: pa.Array) -> pa.Array | None:
    """What casting `raw` would give, in a fraction of the time where that is seen at once: no bounds, and whole numbers
    or finite ones. None where it is not.

    What lies under nulls is looked at as well: where it is infinite the cast itself decides.
    """
    has_bounds = column.minimum is not None or column.maximum is not None
    if has_bounds or not len(raw) or (raw.null_count and not column.nullable):
        return None
    if pa.types.is_integer(raw.type):
        return raw.cast(pa.float64(), safe=False)
    if raw.type not in _FLOATS:
        return None
    stored = np.frombuffer(raw.buffers()[1], _FLOATS[raw.type], len(raw), raw.offset * raw.type.byte_width)
    if not np.isfinite(stored).all():
        return None
    return raw if raw.type == pa.float64() else raw.cast(pa.float64())


def clean_numbers(column: Column, values: Float64Array) -> Float64Array:
    """Numbers [n], NaN = missing, with infinities and those beyond the bounds as the column wants them.

    An infinity is no number, so it is never clipped; it is missing where the column takes what it cannot read for that.
    """
    if column.unreadable == "missing":
        values = np.where(np.isinf(values), np.nan, values)
    if column.outside == "reject":
        return values
    low = -np.inf if column.minimum is None else column.minimum
    high = np.inf if column.maximum is None else column.maximum
    is_finite = ~np.isinf(values)
    for is_beyond, bound in (((values < low) & is_finite, low), ((values > high) & is_finite, high)):
        values = np.where(is_beyond, bound if column.outside == "clip" else np.nan, values)
    return values


def _refused(column: Column, values: Float64Array, absent: BoolArray, unparsed: BoolArray | None) -> BoolArray | None:
    bad = np.isinf(values)
    if unparsed is not None:
        bad |= unparsed
    if not column.nullable:
        bad |= absent
    if column.minimum is not None:
        bad |= values < column.minimum
    if column.maximum is not None:
        bad |= values > column.maximum
    return bad if bad.any() else None


def explain_number(column: Column, value: object) -> Verdict:
    """Why `value` is no number this column takes; for refused cells only."""
    number, low, high = _read(value), column.minimum, column.maximum
    if number is None:
        return Verdict("not_a_number", f"{column.name} must be a number, got {shorten(value)}")
    if np.isnan(number):
        return missing(column)
    if np.isinf(number):
        return Verdict("not_finite", f"{column.name} must be a finite number, got {shorten(value)}")
    if low is not None and number < low:
        return Verdict("below_minimum", f"{column.name} must be at least {low:g}, got {shorten(value)}")
    limit = "within its bounds" if high is None else f"at most {high:g}"
    return Verdict("above_maximum", f"{column.name} must be {limit}, got {shorten(value)}")


def _read(value: object) -> float | None:
    if value is None:
        return float("nan")
    if isinstance(value, str):
        text = value.strip()
        if text in MISSING_TEXTS:
            return float("nan")
        return float(text) if _NUMBER.match(text) else None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
