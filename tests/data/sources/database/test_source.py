"""`DatabaseSource` over what it selects: what is not there is named, and what the fingerprint and cursors rest on."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from corelane.core.errors import ConfigError, CursorError, DataError
from corelane.data.config import DatabaseConfig
from corelane.data.sources.database import DatabaseSource


def rows_of(**config: Any) -> list[dict[str, Any]]:
    return list(DatabaseSource.get_iterator(config))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"table": "par"}, "did you mean 'pairs'"),
        ({"table": "pairs", "columns": ["aa"]}, "columns must name columns of pairs, got 'aa'"),
        ({"table": "pairs", "key": ["aa"]}, "key must name columns of the selection"),
        ({"table": "pairs", "version_column": "v"}, "version_column must name"),
        ({"query": "SELECT a FROM pairs", "parameters": {"x": 1}}, "no :x in it"),
        ({"query": "SELECT nope FROM pairs"}, "no such column"),
    ],
)
def test_what_is_not_there_is_named(file: str, config: dict[str, Any], message: str) -> None:
    """Tables, columns and values that do not exist: what was asked for, and the nearest there is."""
    with pytest.raises((ConfigError, DataError), match=message):
        rows_of(url=file, **config)


def test_without_an_order_no_cursor_is_resumed(file: str) -> None:
    """A table without any key gives no promise about the order of its next reading."""
    source = DatabaseSource(DatabaseConfig(url=file, query="SELECT late FROM loose LIMIT 20", batch_rows=5))
    batches = list(source.batches())
    with pytest.raises(CursorError, match=r"declare data\.source\.key"):
        list(source.batches(batches[0].next_cursor))


def test_the_version_column_is_a_cheap_fingerprint(file: str) -> None:
    """Number of rows and largest version identify the data without reading them."""
    source = DatabaseSource(DatabaseConfig(url=file, table="loose", version_column="id"))
    assert source.fingerprint().strength == "stat"
    with sqlite3.connect(file.removeprefix("sqlite:///")) as connection:
        connection.execute("INSERT INTO loose (id) VALUES (99999)")
    connection.close()
    assert (
        DatabaseSource(DatabaseConfig(url=file, table="loose", version_column="id")).fingerprint()
        != source.fingerprint()
    )


def test_a_key_is_exact_or_refused(file: str) -> None:
    """C1: numbers with fractions cannot be gone on behind; that is said at once, not when a connection breaks."""
    with pytest.raises(ConfigError, match=r"key must name columns of whole numbers, .* got 'late' of double"):
        rows_of(url=file, table="loose", key=["late"])


KINDS = {"text": "text", "whole": "bigint", "number": "double precision", "yes": "int", "none": "text"}
VALUES: dict[str, Any] = {"text": "it's", "whole": -(2**62), "number": 0.1, "yes": True, "none": None}


@pytest.mark.parametrize(
    "url", ["sqlite", "sqlite+pysqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres"))]
)
def test_values_of_every_kind_are_bound(url: str, file: str, request: pytest.FixtureRequest) -> None:
    """Texts, whole numbers, numbers, booleans and null come back as they went, in whatever database."""
    place = request.getfixturevalue("database") if url == "postgresql" else file.replace("sqlite", url, 1)
    query = "SELECT " + ", ".join(f"CAST(:{name} AS {kind}) AS {name}" for name, kind in KINDS.items())
    (row,) = rows_of(url=place, query=query, parameters=VALUES)
    assert {**row, "yes": bool(row["yes"])} == VALUES
