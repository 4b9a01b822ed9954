"""PostgreSQL: every type as a plain one, and rows as both drivers give them."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pyarrow as pa
import pytest

from corelane.core.errors import DataError
from corelane.data.config import DatabaseConfig
from corelane.data.sources.database import DatabaseSource
from corelane.data.sources.database.postgres import PostgresSnapshot
from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.needs("postgres")

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


def test_a_primary_key_of_exact_numbers_orders_the_rows(database: str, postgres_server: PostgresServer) -> None:
    """Numerics that double precision cannot tell apart are in their own order, and none is said to be there twice."""
    postgres_server.execute(
        "CREATE TABLE t (id numeric(30) PRIMARY KEY, n int);"
        " INSERT INTO t SELECT 9007199254740992 + i, i FROM generate_series(9, 0, -1) i",
        database,
    )
    assert [row["n"] for row in rows_of(url=database, table="t")] == list(range(10))


def test_keys_that_are_shown_as_text_are_in_the_order_of_their_texts(
    database: str, postgres_server: PostgresServer
) -> None:
    """C1: an enumeration has an order of its own; going on behind a text means rows with greater texts."""
    postgres_server.execute(
        "CREATE TYPE size AS ENUM ('small', 'large', 'huge');"
        " CREATE TABLE t (id size, u uuid, n int, PRIMARY KEY (id, u));"
        " INSERT INTO t SELECT s::size, ('00000000-0000-0000-0000-00000000000' || i)::uuid, i"
        " FROM unnest(ARRAY['small', 'large', 'huge']) s, generate_series(1, 3) i",
        database,
    )
    config = DatabaseConfig(url=database, table="t", key=["id", "u"], batch_rows=2)
    rows = rows_of(url=database, table="t", key=["id", "u"], batch_rows=2)
    assert [row["id"] for row in rows] == ["huge"] * 3 + ["large"] * 3 + ["small"] * 3
    snapshot = PostgresSnapshot(config)
    for index, row in enumerate(rows):
        behind = [found["n"] for batch in snapshot.read((row["id"], row["u"])) for found in batch.to_pylist()]
        assert behind == [following["n"] for following in rows[index + 1 :]]
    snapshot.close()


def test_only_the_key_columns_of_a_primary_key_order_the_rows(database: str, postgres_server: PostgresServer) -> None:
    """What an index merely includes is no part of the key."""
    postgres_server.execute(
        "CREATE TABLE t (n int, b int, a int, PRIMARY KEY (b, a) INCLUDE (n));"
        " INSERT INTO t VALUES (2, 1, 3), (1, 2, 1), (3, 1, 2)",
        database,
    )
    snapshot = PostgresSnapshot(DatabaseConfig(url=database, table="t"))
    assert snapshot.order == ("b", "a")
    assert [row["n"] for batch in snapshot.read(None) for row in batch.to_pylist()] == [3, 2, 1]
    snapshot.close()


def test_a_primary_key_that_nobody_declared_may_be_infinite(database: str, postgres_server: PostgresServer) -> None:
    """Nothing goes on behind it, so it need not be a value that Python has; a declared one is refused in words."""
    postgres_server.execute(
        "CREATE TABLE t (at timestamp PRIMARY KEY, n int);"
        " INSERT INTO t VALUES ('-infinity', 1), ('2024-02-29', 2), ('infinity', 3)",
        database,
    )
    found = list(DatabaseSource(DatabaseConfig(url=database, table="t")).read_once())
    assert [n for rows in found for n in rows.column("n").to_pylist()] == [1, 2, 3]
    with pytest.raises(DataError, match="the key at must hold times of the years 1 to 9999"):
        list(DatabaseSource(DatabaseConfig(url=database, table="t", key=["at"])).read_once())


@pytest.mark.parametrize(("kind", "smallest"), [("int2", -(2**15)), ("int4", -(2**31)), ("int8", -(2**63))])
def test_reading_goes_on_behind_the_smallest_number_of_a_type(
    database: str, postgres_server: PostgresServer, kind: str, smallest: int
) -> None:
    """C1: a sign in front of a literal is no part of it, and its absolute value is too large for the type."""
    postgres_server.execute(f"CREATE TABLE t (id {kind}); INSERT INTO t VALUES ({smallest}), (-1), (5)", database)
    snapshot = PostgresSnapshot(DatabaseConfig(url=database, table="t", key=["id"]))
    assert [row["id"] for batch in snapshot.read((smallest,)) for row in batch.to_pylist()] == [-1, 5]
    snapshot.close()


def test_texts_of_a_database_without_an_encoding_are_told_where_they_are_read(postgres_server: PostgresServer) -> None:
    """SQL_ASCII takes any bytes for a text; the column that holds others than UTF-8 is named."""
    postgres_server.execute("CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0")
    url = postgres_server.url.rpartition("/")[0] + "/bytes"
    postgres_server.execute("CREATE TABLE t AS SELECT 1 AS id, E'a\\xff' AS word", url)
    with pytest.raises(DataError, match=r"the texts in the column word of .* must be UTF-8"):
        rows_of(url=url, table="t")
