"""Other databases through SQLAlchemy: the promises that Arrow's drivers keep, as far as the database can."""

from __future__ import annotations

from typing import Any

import pytest

from corelane.core.clock import SystemClock
from corelane.core.errors import ConfigError, DataError, MissingDependencyError, SourceReadError
from corelane.data.config import DatabaseConfig
from corelane.data.sources.database import DatabaseSource
from corelane.data.sources.database.alchemy import AlchemySnapshot
from tests.servers.postgres import PostgresServer


class InstantClock(SystemClock):
    """Waits between tries take no time, and are counted."""

    num_waits = 0

    def sleep(self, seconds: float) -> None:
        del seconds
        self.num_waits += 1


def rows_of(url: str, **config: Any) -> list[dict[str, Any]]:
    return list(DatabaseSource.get_iterator({"url": url, **config}))


def by_alchemy(url: str) -> str:
    return url.replace("postgresql", "postgresql+psycopg", 1).replace("sqlite:", "sqlite+pysqlite:", 1)


def test_a_missing_driver_and_an_unknown_database_are_told() -> None:
    """What to install, or that nobody knows the URL."""
    with pytest.raises(MissingDependencyError, match="must be installed"):
        rows_of("mysql://host/name", table="t")
    with pytest.raises(ConfigError, match="SQLAlchemy knows"):
        rows_of("nodatabase://host/name", table="t")


def test_what_looks_like_a_value_and_is_none_is_left_alone(file: str) -> None:
    """Texts, quoted names and comments of the query with colons in them."""
    query = """SELECT a AS "x :b", ':b' AS literal, b FROM pairs WHERE a = :a AND b < :b -- :c"""
    found = rows_of(by_alchemy(file), query=query, parameters={"a": "Z", "b": 2})
    assert found == [{"x :b": "Z", "literal": ":b", "b": 1}]
    with pytest.raises(ConfigError, match="got 'unused'"):
        rows_of(by_alchemy(file), query=query, parameters={"a": "Z", "b": 2, "unused": 1})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"table": "par"}, "did you mean 'pairs'"),
        ({"table": "pairs", "columns": ["aa"]}, "columns must name columns of pairs, got 'aa'"),
        ({"table": "pairs", "version_column": "v"}, "version_column must name"),
        ({"query": "SELECT nope FROM pairs"}, "no such column: nope$"),
    ],
)
def test_what_is_not_there_is_told_at_once(file: str, config: dict[str, Any], message: str) -> None:
    """A wrong name is not taken for a lost connection: nothing is tried again."""
    clock = InstantClock()
    with pytest.raises((ConfigError, DataError), match=message):
        DatabaseSource(DatabaseConfig(url=by_alchemy(file), **config), clock=clock).schema()
    assert clock.num_waits == 0


@pytest.mark.needs("postgres")
def test_the_session_cannot_write_and_its_statements_are_limited(
    database: str, postgres_server: PostgresServer
) -> None:
    """C3, C4: a function that writes is refused by the server, and one that waits ends in a timeout, tried once."""
    postgres_server.execute("CREATE SEQUENCE s", database)
    with pytest.raises(DataError, match="read-only transaction"):
        rows_of(by_alchemy(database), query="SELECT setval('s', 7) AS a")
    clock = InstantClock()
    config = DatabaseConfig(url=by_alchemy(database), query="SELECT pg_sleep(60)::text AS a", statement_timeout_s=0.2)
    with pytest.raises(DataError, match=r"must end within 0\.2 s, got a timeout"):
        DatabaseSource(config, clock=clock).schema()
    assert clock.num_waits == 0


@pytest.mark.needs("postgres")
def test_who_is_not_let_in_is_told_and_who_is_not_heard_is_waited_for(database: str) -> None:
    """A database that is not there is the user's to mend; a server that is not there may come back."""
    with pytest.raises(ConfigError, match='database "absent" does not exist'):
        AlchemySnapshot(DatabaseConfig(url=by_alchemy(database).rpartition("/")[0] + "/absent", table="t"))
    with pytest.raises(SourceReadError, match="may work later"):
        AlchemySnapshot(DatabaseConfig(url="postgresql+psycopg://u:geheim@127.0.0.1:1/x", table="t"))


@pytest.mark.needs("postgres")
def test_one_snapshot_for_the_whole_read(database: str, postgres_server: PostgresServer) -> None:
    """C2: rows that are added while the read lasts are not seen by it."""
    postgres_server.execute("CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 1000) i", database)
    config = DatabaseConfig(url=by_alchemy(database), table="t", key=["id"], batch_rows=100)
    rows = DatabaseSource(config).read_once()
    got = next(rows).column("id").to_pylist()
    postgres_server.execute("INSERT INTO t VALUES (1001); DELETE FROM t WHERE id > 500", database)
    got += [row for batch in rows for row in batch.column("id").to_pylist()]
    assert got == list(range(1, 1001))


@pytest.mark.needs("postgres")
def test_keys_of_text_are_bytewise_whatever_the_collation(database: str, postgres_server: PostgresServer) -> None:
    """C1: two keys that the database's own collation takes for one are two rows, and a broken read loses neither."""
    postgres_server.execute(
        "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
        " CREATE TABLE t (id text COLLATE blind, n int); INSERT INTO t VALUES ('b', 1), ('A', 2), ('a', 3), ('B', 4)",
        database,
    )
    config = DatabaseConfig(url=by_alchemy(database), table="t", key=["id"], batch_rows=1)
    snapshot = AlchemySnapshot(config)
    assert [row["id"] for batch in snapshot.read(None) for row in batch.to_pylist()] == ["A", "B", "a", "b"]
    assert [row["id"] for batch in snapshot.read(("B",)) for row in batch.to_pylist()] == ["a", "b"]
    snapshot.close()


@pytest.mark.needs("postgres")
def test_keys_that_are_shown_as_text_are_compared_as_their_texts(
    database: str, postgres_server: PostgresServer
) -> None:
    """C1: UUIDs and enumerations have no collation; an empty table, of whose types nothing is known, has no rows."""
    postgres_server.execute(
        "CREATE TYPE size AS ENUM ('small', 'large');"
        " CREATE TABLE t (id size, u uuid, PRIMARY KEY (id, u)); CREATE TABLE nothing (id bigint PRIMARY KEY);"
        " INSERT INTO t SELECT s::size, ('00000000-0000-0000-0000-00000000000' || i)::uuid"
        " FROM unnest(ARRAY['small', 'large']) s, generate_series(1, 2) i",
        database,
    )
    snapshot = AlchemySnapshot(DatabaseConfig(url=by_alchemy(database), table="t", key=["id", "u"]))
    rows = [(row["id"], row["u"][-1]) for batch in snapshot.read(None) for row in batch.to_pylist()]
    assert rows == [("large", "1"), ("large", "2"), ("small", "1"), ("small", "2")]
    behind = snapshot.read(("large", "00000000-0000-0000-0000-000000000001"))
    assert [(row["id"], row["u"][-1]) for batch in behind for row in batch.to_pylist()] == rows[1:]
    snapshot.close()
    assert rows_of(by_alchemy(database), table="nothing") == []
    assert rows_of(by_alchemy(database), table="nothing", key=["id"]) == []
