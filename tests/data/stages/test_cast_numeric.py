"""Text and typed cells to numbers: exact, independent of the locale, with a reason for each refusal."""

from __future__ import annotations

import decimal
import locale
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corelane.data.stages.cast_numeric import MISSING_TEXTS, cast_numeric
from corelane.data.stages.column import Column

AGE = Column("age", "numeric")


@given(value=st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_text_reads_back_to_the_same_bits(value: float) -> None:
    """repr, 17 digits and 40 digits of any float64 parse to exactly that float64."""
    texts = [repr(value), f"{value:.16e}", f" {value:.40e}\t"]
    parsed = cast_numeric(AGE, pa.array(texts)).values.to_pylist()
    assert [math.copysign(1, number) for number in parsed] == [math.copysign(1, value)] * 3
    assert parsed == [value] * 3


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("+1.5", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("-1E-2", -0.01),
        ("007", 7.0),
        ("\xa012\xa0", 12.0),
        ("1e-400", 0.0),
        ("123456789012345678901234567890", 1.2345678901234568e29),
    ],
)
def test_forms_of_numbers(text: str, number: float) -> None:
    """Signs, bare points, exponents, leading zeros and surrounding spaces are read."""
    assert cast_numeric(AGE, pa.array([text])).values.to_pylist() == [number]


@pytest.mark.parametrize(
    "text",
    ["abc", "1,5", "1 000", "1_000", "0x10", "1e", "--1", "1.2.3", "\u0661", "True", "?", "\u0131nf", "\u0130NF"],
)
def test_what_is_no_number(text: str) -> None:
    """Grouping, other alphabets' digits and letters, hexadecimal and words are refused by name."""
    cast = cast_numeric(AGE, pa.array(["1", text, None]))
    assert cast.bad is not None
    assert cast.bad.tolist() == [False, True, False]
    verdict = cast.explain(1)
    assert (verdict.code, verdict.reason) == ("not_a_number", f"age must be a number, got {text!r}")


def test_missing_texts() -> None:
    """The texts that mean "no value" are null, with spaces around them too."""
    cast = cast_numeric(AGE, pa.array([f" {text} " for text in sorted(MISSING_TEXTS)]))
    assert cast.bad is None
    assert cast.values.null_count == len(MISSING_TEXTS)


@pytest.mark.parametrize("text", ["inf", "-Infinity", "+INF", "1e400"])
def test_infinite_texts(text: str) -> None:
    """An infinity is a number, but none a model can take."""
    verdict = cast_numeric(AGE, pa.array([text])).explain(0)
    assert (verdict.code, verdict.reason) == ("not_finite", f"age must be a finite number, got {text!r}")


@pytest.mark.parametrize(
    ("raw", "numbers"),
    [
        (pa.array([1, None, 3], pa.int8()), [1.0, None, 3.0]),
        (pa.array([2**63 + 1], pa.uint64()), [float(2**63)]),
        (pa.array([True, False, None]), [1.0, 0.0, None]),
        (pa.array([0.5, float("nan"), None], pa.float32()), [0.5, None, None]),
        (pa.array([np.float16(0.5)], pa.float16()), [0.5]),
        (pa.array([decimal.Decimal("1.25"), None]), [1.25, None]),
        (pa.array(["1", "x"]).dictionary_encode()[:1], [1.0]),
        (pa.array(["1"], pa.large_string()), [1.0]),
        (pa.nulls(2), [None, None]),
        (pa.array([], pa.string()), []),
    ],
)
def test_typed_columns(raw: pa.Array, numbers: list[Any]) -> None:
    """Every Arrow type of numbers is float64 with null for missing."""
    cast = cast_numeric(AGE, raw)
    assert cast.bad is None
    assert cast.values.type == pa.float64()
    assert cast.values.to_pylist() == numbers


def test_other_types_are_refused_cell_by_cell() -> None:
    """A list or a time in a number column gives a reason for each row."""
    cast = cast_numeric(AGE, pa.array([[1], [2]]))
    assert cast.bad is not None
    assert cast.bad.all()
    assert cast.explain(1).reason == "age must be a number, got [2]"


def test_bounds_are_inclusive() -> None:
    """The bounds themselves are allowed; the message says which bound and which value."""
    column = Column("age", "numeric", nullable=False, minimum=0.0, maximum=1.5)
    cast = cast_numeric(column, pa.array([0.0, 1.5, -0.1, 1.6, None]))
    assert cast.bad is not None
    assert cast.bad.tolist() == [False, False, True, True, True]
    assert [cast.explain(row).code for row in (2, 3, 4)] == ["below_minimum", "above_maximum", "missing"]
    assert cast.explain(2).reason == "age must be at least 0, got -0.1"


def test_a_decimal_comma_locale_changes_nothing() -> None:
    """Parsing does not ask the process's locale."""
    before = locale.setlocale(locale.LC_NUMERIC)
    comma = next((name for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "C.UTF-8") if _is_installed(name)), "C")
    try:
        locale.setlocale(locale.LC_NUMERIC, comma)
        assert cast_numeric(AGE, pa.array(["1.5"])).values.to_pylist() == [1.5]
        assert cast_numeric(AGE, pa.array(["1,5"])).bad is not None
    finally:
        locale.setlocale(locale.LC_NUMERIC, before)


def _is_installed(name: str) -> bool:
    before = locale.setlocale(locale.LC_NUMERIC)
    try:
        locale.setlocale(locale.LC_NUMERIC, name)
    except locale.Error:
        return False
    locale.setlocale(locale.LC_NUMERIC, before)
    return True


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"outside": "clip"}, [0.0, 0.5, 1.0, None]),
        ({"outside": "missing"}, [None, 0.5, None, None]),
    ],
)
def test_numbers_beyond_the_bounds(rules: dict[str, Any], expected: list[float | None]) -> None:
    """They become the bound or a missing value, as the column says; the bounds themselves are within."""
    cast = cast_numeric(Column("age", "numeric", minimum=0.0, maximum=1.0, **rules), pa.array([-3.0, 0.5, 7.0, None]))
    assert cast.bad is None
    assert cast.values.to_pylist() == expected


@pytest.mark.parametrize("raw", [["12 kg", "inf", "1e400", "NA", "3"], [math.inf, -math.inf, None, math.nan, 3.0]])
def test_what_cannot_be_read_may_be_missing(raw: list[Any]) -> None:
    """Text that is no number and infinities are missing; an infinity is never clipped to a bound."""
    column = Column("age", "numeric", unreadable="missing", maximum=9.0, outside="clip")
    cast = cast_numeric(column, pa.array(raw))
    assert cast.bad is None
    assert cast.values.to_pylist() == [None] * 4 + [3.0]
    clipped = cast_numeric(Column("age", "numeric", maximum=9.0, outside="clip"), pa.array([math.inf, 10.0]))
    assert clipped.bad is not None
    assert clipped.bad.tolist() == [True, False]
    assert clipped.explain(0).code == "not_finite"


@pytest.mark.parametrize("kind", [pa.decimal128(38, 2), pa.decimal256(76, 2), pa.decimal128(10, 2)])
def test_decimals_are_the_nearest_float64(kind: pa.DataType) -> None:
    """A decimal number is the float64 that its text in a CSV would be."""
    cells = [f"{cents // 100}.{cents % 100:02}" for cents in range(123_400, 124_400)] + ["2254.25", "-0.07"]
    cast = cast_numeric(AGE, pa.array([decimal.Decimal(cell) for cell in cells], kind))
    assert cast.values.to_pylist() == cast_numeric(AGE, pa.array(cells)).values.to_pylist()
    assert cast.values.to_pylist() == [float(cell) for cell in cells]


def test_bounds_of_decimals() -> None:
    """A bound is within, and the reason names the bound there is."""
    raw = pa.array([decimal.Decimal("2254.258"), decimal.Decimal("2254.259"), decimal.Decimal("2254.257")])
    below, above = Column("age", "numeric", minimum=2254.258), Column("age", "numeric", maximum=2254.258)
    for column, bad, code in ((below, 2, "below_minimum"), (above, 1, "above_maximum")):
        cast = cast_numeric(column, raw)
        assert cast.bad is not None
        assert np.flatnonzero(cast.bad).tolist() == [bad]
        assert cast.explain(bad).code == code
