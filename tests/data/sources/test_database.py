"""What comes out of a database: plain types in order, from PostgreSQL, SQLite and whatever SQLAlchemy reaches."""

from __future__ import annotations

import datetime
import sqlite3
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from corelane.core.errors import ConfigError, CursorError, DataError, MissingDependencyError
from corelane.data.config import DatabaseConfig
from corelane.data.sources.database import DatabaseSource, sql
from tests.servers.postgres import PostgresServer

COLUMNS = {
    "small": ("smallint", "3", pa.int16(), 3),
    "whole": ("bigint", "5000000000", pa.int64(), 5_000_000_000),
    "half": ("real", "1.5", pa.float32(), 1.5),
    "number": ("double precision", "0.1", pa.float64(), 0.1),
    "exact": ("numeric(10, 2)", "12.25", pa.float64(), 12.25),
    "money": ("money", "'5.50'", pa.float64(), 5.5),
    "yes": ("boolean", "true", pa.bool_(), True),
    "word": ("varchar(20)", "'é; ''x'''", pa.string(), "é; 'x'"),
    "day": ("date", "'2024-02-29'", pa.date32(), datetime.date(2024, 2, 29)),
    "moment": ("timestamp", "'2024-02-29 12:30'", pa.timestamp("us"), datetime.datetime(2024, 2, 29, 12, 30)),
    "id": ("uuid", "'00000000-0000-0000-0000-000000000001'", pa.string(), str(uuid.UUID(int=1))),
    "doc": ("jsonb", "'{\"a\": 1}'", pa.string(), '{"a": 1}'),
    "list": ("double precision[]", "'{1, 2.5}'", pa.list_(pa.float64()), [1.0, 2.5]),
    "bytes": ("bytea", "'\\x0102'", pa.binary(), b"\1\2"),
    "span": ("interval", "'1 day'", pa.string(), "1 day"),
    "kind of": ("mood", "'glad'", pa.string(), "glad"),
}


def rows_of(**config: Any) -> list[dict[str, Any]]:
    return list(DatabaseSource.get_iterator(config))


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A SQLite file with a table whose columns hold what SQLite lets them hold; gives its URL."""
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        connection.execute("CREATE TABLE loose (id INTEGER PRIMARY KEY, late REAL, mixed INT, none, bytes BLOB)")
        values = [(i, i * 0.5 if i > 20_000 else None, "x" if i == 25_000 else i, None, b"\0") for i in range(30_000)]
        connection.executemany("INSERT INTO loose VALUES (?, ?, ?, ?, ?)", values)
        connection.execute("CREATE TABLE pairs (a TEXT, b INT, PRIMARY KEY (a, b)) WITHOUT ROWID")
        connection.executemany("INSERT INTO pairs VALUES (?, ?)", [(a, b) for a in ("Z", "a", "é") for b in (1, 2, 10)])
    connection.close()
    return f"sqlite:///{tmp_path}/rows.db"


@pytest.mark.needs("postgres")
def test_types_of_postgresql_become_plain_ones(database: str, postgres_server: PostgresServer) -> None:
    """Every common type arrives as what a pipeline can use; what Arrow lacks is cast by the server."""
    postgres_server.execute("CREATE TYPE mood AS ENUM ('glad', 'sad')", database)
    declared = ", ".join(f'"{name}" {kind}' for name, (kind, *_) in COLUMNS.items())
    values = ", ".join(f"{value}" for _, value, *_ in COLUMNS.values())
    postgres_server.execute(
        f"CREATE TABLE t ({declared}); INSERT INTO t VALUES ({values}); INSERT INTO t DEFAULT VALUES", database
    )
    source = DatabaseSource(DatabaseConfig(url=database, table="t"))
    assert source.schema() == pa.schema([(name, kind) for name, (_, _, kind, _) in COLUMNS.items()])
    first, empty = rows_of(url=database, table="t")
    assert first == {name: value for name, (*_, value) in COLUMNS.items()}
    assert empty == dict.fromkeys(COLUMNS)


@pytest.mark.needs("postgres")
@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg"])
def test_both_ways_to_postgresql_give_the_same_rows(
    database: str, postgres_server: PostgresServer, driver: str
) -> None:
    """Tables, columns, queries with values, and composite keys whose texts differ in case and accents."""
    postgres_server.execute(
        'CREATE SCHEMA "My Shop"; CREATE TABLE "My Shop".t (a text, b int, c float8, PRIMARY KEY (a, b));'
        " INSERT INTO \"My Shop\".t SELECT a, b, b * 0.5 FROM unnest(ARRAY['Z', 'a', 'é']) a, generate_series(1, 4) b",
        database,
    )
    url = database.replace("postgresql", driver, 1)
    table = {"url": url, "table": "My Shop.t", "key": ["a", "b"], "batch_rows": 5}
    rows = rows_of(**table)
    assert len(rows) == 12
    if driver == "postgresql":
        assert [row["a"] for row in rows] == ["Z"] * 4 + ["a"] * 4 + ["é"] * 4
    assert rows_of(**table, columns=["b", "a"])[0].keys() == {"a", "b"}
    query = 'SELECT a, c FROM "My Shop".t WHERE b = :b AND a <> :a'
    found = rows_of(url=url, query=query, parameters={"b": 4, "a": "Z"}, key=["a"])
    assert found == [{"a": "a", "c": 2.0}, {"a": "é", "c": 2.0}]


@pytest.mark.parametrize("driver", ["sqlite", "sqlite+pysqlite"])
def test_sqlite_tables_and_queries(file: str, driver: str) -> None:
    """Composite primary keys put rows in bytewise order; values are bound."""
    url = file.replace("sqlite", driver, 1)
    pairs = rows_of(url=url, table="pairs")
    assert [(row["a"], row["b"]) for row in pairs] == [(a, b) for a in ("Z", "a", "é") for b in (1, 2, 10)]
    assert rows_of(url=url, query="SELECT b FROM pairs WHERE a = :a", parameters={"a": "é"})[-1] == {"b": 10}


def test_a_loose_column_of_sqlite_has_one_type(file: str) -> None:
    """The widest value anywhere decides, however late it comes; an empty column is text."""
    source = DatabaseSource(DatabaseConfig(url=file, table="loose", batch_rows=1000))
    types = [pa.int64(), pa.float64(), pa.string(), pa.string(), pa.binary()]
    assert source.schema().types == types
    batches = list(source.batches())
    assert max(batch.rows.num_rows for batch in batches) <= 1000
    table = pa.Table.from_batches([batch.rows for batch in batches])
    assert table.num_rows == 30_000
    assert table.column("mixed")[25_000].as_py() == "x"
    assert table.column("late").null_count == 20_001


def test_sqlite_is_opened_for_reading_only(file: str) -> None:
    """No statement can change the file, and none is made where there is none."""
    before = Path(file.removeprefix("sqlite:///")).read_bytes()
    with pytest.raises(DataError, match="run the statement"):
        rows_of(url=file, query="SELECT load_extension('x')")
    with pytest.raises(ConfigError, match="nothing there"):
        rows_of(url=file + "x", table="t")
    assert Path(file.removeprefix("sqlite:///")).read_bytes() == before
    assert not Path(file.removeprefix("sqlite:///") + "x").exists()


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    """A wrong file is named in one line."""
    (tmp_path / "x.db").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(DataError, match="not a database"):
        rows_of(url=f"sqlite:///{tmp_path}/x.db", table="t")


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


def test_a_missing_driver_and_an_unknown_database_are_told() -> None:
    """What to install, or that nobody knows the URL."""
    with pytest.raises(MissingDependencyError, match="must be installed"):
        rows_of(url="mysql://host/name", table="t")
    with pytest.raises(ConfigError, match="SQLAlchemy knows"):
        rows_of(url="nodatabase://host/name", table="t")


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
