"""One text per category value, whichever source it came from."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import pyarrow as pa
import pytest

from corelane.data.stages.cast_text import MAX_TEXT_LENGTH, CategoryReader, canonical_text, cast_text
from corelane.data.stages.column import Column

COLOUR = Column("colour", "categorical")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (" red ", "red"),
        ("TRUE", "true"),
        ("False", "false"),
        (True, "true"),
        (3, "3"),
        (3.0, "3"),
        (2.5, "2.5"),
        ("3.0", "3.0"),
        ("007", "007"),
        ("", None),
        ("NA", None),
        ("null", None),
        (None, None),
        (float("nan"), None),
        (1e300, str(int(1e300))),
        (datetime.date(2024, 2, 29), "2024-02-29"),
        ("none", "none"),
        (decimal.Decimal("1.00"), "1"),
        (decimal.Decimal("-0.00"), "0"),
        (decimal.Decimal("1.50"), "1.5"),
        (decimal.Decimal("0.00001"), repr(0.00001)),
        (decimal.Decimal("12345678901234567890"), "12345678901234567890"),
        (decimal.Decimal("1E+3"), "1000"),
        (decimal.Decimal("NaN"), None),
        (decimal.Decimal("sNaN"), None),
    ],
)
def test_canonical_text(value: Any, text: str | None) -> None:
    """Spaces go, booleans and whole numbers are written one way, the missing texts are missing, the rest is kept."""
    assert canonical_text(value) == text


@pytest.mark.parametrize("value", [b"red", [1], {"a": 1}, object(), [10**5000], decimal.Decimal("1E+999999")])
def test_what_is_no_category(value: Any) -> None:
    """Bytes, containers and other objects are refused."""
    with pytest.raises(TypeError):
        canonical_text(value)
    assert CategoryReader(COLOUR).explain(value).code == "not_text"


def test_a_number_too_long_to_write_is_no_category() -> None:
    """Python refuses to write thousands of digits; so do we, with a reason."""
    assert CategoryReader(COLOUR).read(10**5000) == (None, False)
    assert CategoryReader(COLOUR).explain(10**5000).code == "not_text"


@pytest.mark.parametrize(
    ("raw", "texts"),
    [
        (pa.array(["b", None, " a", "b"]), ["b", None, "a", "b"]),
        (pa.array(["b", None, "a"]).dictionary_encode(), ["b", None, "a"]),
        (pa.array(["b"], pa.large_string()), ["b"]),
        (pa.array([1, 2, None]), ["1", "2", None]),
        (pa.array([1.0, 2.5, float("nan")]), ["1", "2.5", None]),
        (pa.array([True, None]), ["true", None]),
        (pa.array([decimal.Decimal("1.00"), decimal.Decimal("2.50"), None]), ["1", "2.5", None]),
        (pa.array([datetime.datetime(2024, 1, 2, 3, 4)]), ["2024-01-02 03:04:00"]),
        (pa.nulls(2), [None, None]),
        (pa.array([], pa.string()), []),
        (pa.array(["x", "y", "z"])[1:], ["y", "z"]),
    ],
)
def test_typed_columns(raw: pa.Array, texts: list[str | None]) -> None:
    """Every scalar Arrow type becomes text, null where missing; dictionaries stay dictionaries."""
    cast = cast_text(COLOUR, raw)
    assert cast.bad is None
    is_encoded = pa.types.is_dictionary(raw.type)
    assert cast.values.type == (pa.dictionary(pa.int32(), pa.string()) if is_encoded else pa.string())
    assert cast.values.to_pylist() == texts


def test_declared_categories_are_the_only_ones() -> None:
    """Another text refuses the row with the known ones; a declared "NA" is a value."""
    column = Column("colour", "categorical", nullable=False, categories=("red", "NA"))
    cast = cast_text(column, pa.array(["red", "NA", "blue", None, ""]))
    assert cast.bad is not None
    assert cast.bad.tolist() == [False, False, True, True, True]
    assert cast.values.to_pylist()[:2] == ["red", "NA"]
    assert cast.explain(2).reason == "colour must be one of red, NA, got 'blue'"
    assert [cast.explain(row).code for row in (2, 3, 4)] == ["unknown_category", "missing", "missing"]


def test_documents_are_no_categories() -> None:
    """A text of more than a thousand characters is refused with its length, not shown."""
    cast = cast_text(COLOUR, pa.array(["x" * MAX_TEXT_LENGTH, "y" * (MAX_TEXT_LENGTH + 1), None]))
    assert cast.bad is not None
    assert cast.bad.tolist() == [False, True, False]
    assert cast.explain(1).reason == "colour must have at most 1000 characters, got 1001"


def test_lists_are_refused_cell_by_cell() -> None:
    """A column of lists gives a reason for each row."""
    cast = cast_text(COLOUR, pa.array([["a"], ["b"]]))
    assert cast.bad is not None
    assert cast.bad.all()
    assert cast.explain(0).reason == "colour must be text, a number or a boolean, got ['a']"


def test_a_dictionary_with_a_missing_text_is_unfolded() -> None:
    """A null that hides among a dictionary's values would be overlooked: the column becomes plain text."""
    raw = pa.DictionaryArray.from_arrays(pa.array([0, 1, None], pa.int32()), pa.array(["NA", "b"]))
    cast = cast_text(COLOUR, raw)
    assert cast.bad is None
    assert cast.values.equals(pa.array([None, "b", None], pa.string()))


def test_spaces_may_belong_to_the_text() -> None:
    """Without trimming a space makes another category, and only the bare texts of a missing value are missing."""
    raw = pa.array(["a", " a", " ", "", " NA", "NA"])
    cast = cast_text(Column("colour", "categorical", trim=False), raw)
    assert cast.values.to_pylist() == ["a", " a", " ", None, " NA", None]


@pytest.mark.parametrize("is_encoded", [True, False])
def test_patterns(is_encoded: bool) -> None:
    """The trimmed text as a whole must match; a refusal shows pattern and value; a missing value has no pattern."""
    raw = pa.array([" AB1 ", "AB12", "xAB1", None, "AB1"])
    column = Column("colour", "categorical", pattern="[A-Z]{2}[0-9]")
    cast = cast_text(column, raw.dictionary_encode() if is_encoded else raw)
    assert cast.bad is not None
    assert cast.bad.tolist() == [False, True, True, False, False]
    assert cast.values.to_pylist()[0] == cast.values.to_pylist()[4] == "AB1"
    assert cast.explain(1).code == "no_match"
    assert cast.explain(1).reason == "colour must match the pattern '[A-Z]{2}[0-9]', got 'AB12'"


@pytest.mark.parametrize(
    ("limits", "value"),
    [({}, "x" * (MAX_TEXT_LENGTH + 1)), ({"pattern": "a+"}, "b"), ({"categories": ("a",)}, "b"), ({}, ["a"])],
)
def test_what_is_not_taken_may_be_missing(limits: dict[str, Any], value: Any) -> None:
    """Documents, other texts and lists are missing where the column says so."""
    column = Column("colour", "categorical", unreadable="missing", **limits)
    cast = cast_text(column, pa.array([value]))
    assert cast.bad is None
    assert cast.values.to_pylist() == [None]
    assert CategoryReader(column).read(value) == (None, True)


@pytest.mark.parametrize("is_encoded", [True, False])
@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.duration("s"), pa.date64()])
def test_times_beyond_the_calendar_cost_their_rows(kind: pa.DataType, *, is_encoded: bool) -> None:
    """A time that Python cannot write out is no category; the other rows keep theirs."""
    raw = pa.array([0, 2**62, None], pa.int64()).cast(kind)
    cast = cast_text(COLOUR, raw.dictionary_encode() if is_encoded else raw)
    assert cast.bad is not None
    assert cast.bad.tolist() == [False, True, False]
    assert cast.values.to_pylist()[0] == str(raw[0].as_py())
    assert (cast.explain(1).code, f"got {2**62} {kind}" in cast.explain(1).reason) == ("not_text", True)
