"""SQL as text: names and values stay what they are."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from corelane.core.errors import ConfigError
from corelane.data.sources.database import sql


@pytest.mark.parametrize(
    ("query", "bound"),
    [
        ("a = :x", "a = <x>"),
        ("a = ':x' AND b = :x", "a = ':x' AND b = <x>"),
        ('":x" = :x', '":x" = <x>'),
        ("a::x = :x", "a::x = <x>"),
        ("-- :x\n:x /* :x */", "-- :x\n<x> /* :x */"),
        ("E'\\':x' = :x", "E'\\':x' = <x>"),
        ("$q$ :x $q$ = :x", "$q$ :x $q$ = <x>"),
        ("a[1:y] = :x", "a[1:y] = <x>"),
    ],
)
def test_names_are_bound_where_they_are_values(query: str, bound: str) -> None:
    """Texts, quoted names, comments, casts and slices are left alone."""
    assert sql.bind_names(query, ["x"], lambda name: f"<{name}>") == bound


@pytest.mark.parametrize(
    ("name", "quoted"), [("a", '"a"'), ('a"; DROP TABLE b; --', '"a""; DROP TABLE b; --"'), ("A b", '"A b"')]
)
def test_names_are_quoted(name: str, quoted: str) -> None:
    """Whatever a name holds, it is one name."""
    assert sql.quote_name(name) == quoted


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_names_that_no_database_has_are_refused(name: str) -> None:
    """Nothing, and NUL, at which a driver in C would end the text."""
    with pytest.raises(ConfigError, match="without NUL"):
        sql.quote_name(name)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (-3, "-3"),
        ("it's", "'it''s'"),
        (datetime.date(2024, 2, 29), "'2024-02-29'"),
        (datetime.datetime(2024, 2, 29, 1, 2, 3, 4), "'2024-02-29 01:02:03.000004'"),
    ],
)
def test_keys_become_literals(value: Any, text: str) -> None:
    """Whole numbers, texts and times can be keys."""
    assert sql.literal(value) == text


@pytest.mark.parametrize("value", [1.5, True, None, b"x"])
def test_what_has_no_exact_order_is_no_key(value: Any) -> None:
    """Numbers with fractions, booleans, bytes and nothing."""
    with pytest.raises(ConfigError, match="a key must hold"):
        sql.literal(value)


@pytest.mark.parametrize(
    ("query", "checked"),
    [
        ("SELECT 1", "SELECT 1"),
        (" (SELECT 1); ", "(SELECT 1)"),
        ("-- all\nSELECT ';' /* ; */", "-- all\nSELECT ';' /* ; */"),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "WITH a AS (SELECT 1) SELECT * FROM a"),
    ],
)
def test_one_select_is_a_query(query: str, checked: str) -> None:
    """With or without a last semicolon; those in texts and comments do not count."""
    assert sql.check_query(query) == checked


@pytest.mark.parametrize(
    "query", ["", "DELETE FROM a", "SELECT 1; SELECT 2", "SELECT 1\0", "EXPLAIN SELECT 1", "x" * 2**21]
)
def test_anything_else_is_none(query: str) -> None:
    """Other statements, several, NUL and megabytes of text."""
    with pytest.raises(ConfigError, match=r"data\.source\.query must be"):
        sql.check_query(query)


def test_rows_behind_a_key() -> None:
    """One column is compared, several as a row."""
    assert sql.beyond(["a"], ["1"]) == "a > 1"
    assert sql.beyond(["a", "b"], ["1", "'x'"]) == "(a, b) > (1, 'x')"
