"""What a column may be, and the words used about it."""

from __future__ import annotations

from typing import Any

import pytest

from corelane.core.errors import ConfigError, StateError
from corelane.data.stages.column import MAX_CATEGORIES, Column, nearest, shorten


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "a column name must have 1 to 200 characters"),
        ({"name": "x" * 201}, "a column name must have 1 to 200 characters"),
        ({"kind": "text"}, "the kind of c must be one of numeric, categorical, date, tensor, image"),
        ({"maximum": float("inf")}, "the bounds of c must be finite, got 0 and inf"),
        ({"minimum": float("nan")}, "the bounds of c must be finite, got nan and 0"),
        ({"kind": "tensor"}, "must have a shape such as"),
        ({"kind": "tensor", "shape": (0,)}, "must have lengths of at least 1"),
        ({"kind": "tensor", "shape": (1 << 13, 1 << 13)}, "at most 16777216 elements"),
        ({"kind": "image", "shape": (4, 4)}, "must be [height, width, 1 or 3 channels], got [4, 4]"),
        ({"kind": "image", "shape": (4, 4, 2)}, "must be [height, width, 1 or 3 channels], got [4, 4, 2]"),
        ({"kind": "categorical", "categories": (" a",)}, "must not begin or end with spaces"),
        ({"outside": "clip"}, "outside of c must be left out without a minimum or a maximum"),
        ({"outside": "round", "minimum": 0.0}, "must be reject, missing or (outside) clip, got 'round'"),
        ({"unreadable": "missing", "nullable": False}, "unreadable of c must be another than missing"),
        ({"outside": "missing", "minimum": 0.0, "nullable": False}, "outside of c must be another than missing"),
        ({"kind": "categorical", "pattern": "("}, "the pattern of c must be a regular expression"),
        ({"kind": "categorical", "pattern": "a", "categories": ("a",)}, "either categories or a pattern"),
        ({"kind": "categorical", "categories": ("a",) * (MAX_CATEGORIES + 1)}, "must have at most 100000 categories"),
    ],
)
def test_refuses_what_no_column_can_be(arguments: dict[str, Any], message: str) -> None:
    """A column that exists is one the casts and stages can take: names, shapes and categories are bounded."""
    with pytest.raises(ConfigError) as caught:
        Column(**({"name": "c", "kind": "numeric"} | arguments))
    assert message in caught.value.message


def test_stored_columns_are_checked() -> None:
    """JSON with a field missing, unknown or impossible is a StateError."""
    stored = Column("i", "image", shape=(2, 2, 3), encoded=True).to_json()
    assert Column.from_json(stored) == Column("i", "image", shape=(2, 2, 3), encoded=True)
    for change in ({"shape": "ab"}, {"extra": 1}, {"kind": "x"}, {"categories": 3}):
        with pytest.raises(StateError, match="a stored column must have the fields of this version"):
            Column.from_json(stored | change)
    with pytest.raises(StateError):
        Column.from_json({"name": "i"})


def test_shorten_keeps_messages_readable() -> None:
    """Whatever comes from outside fits one line, even a number Python refuses to write out."""
    assert shorten("abc") == "'abc'"
    for value in ("x" * 10**6, b"x" * 10**6, list(range(10**5)), 10**5000, [10**5000]):
        assert len(shorten(value)) <= 60


def test_nearest_offers_a_name_or_lists_them() -> None:
    """A slip gets the name that was meant, anything else the names there are, twenty at most."""
    assert nearest("agee", ["age", "size"]) == "; did you mean 'age'?"
    assert nearest("qqq", ["age", "size"]) == "; known here: age, size"
    assert nearest("qqq", [f"c{index}" for index in range(30)]).endswith("c19, ...")
