"""Databases that break, change and wait in the middle of a read: nothing is lost, repeated or mixed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from corelane.core.clock import SystemClock
from corelane.core.errors import ConfigError, DataError, SourceReadError
from corelane.data.config import DatabaseConfig
from corelane.data.sources.database import DatabaseSource, interruptible
from tests.faults.proxy import FaultProxy
from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.needs("postgres")

NUM_ROWS, NUM_FEW = 60_000, 10


class InstantClock(SystemClock):
    """Waits between tries take no time."""

    def sleep(self, seconds: float) -> None:
        del seconds


@pytest.fixture
def table(database: str, postgres_server: PostgresServer) -> str:
    """A table `rows` of 60,000 rows, several times what is handed over at once; gives the database's URL."""
    return fill(database, postgres_server, NUM_ROWS)


@pytest.fixture
def few(database: str, postgres_server: PostgresServer) -> str:
    """The same with ten rows."""
    return fill(database, postgres_server, NUM_FEW)


def fill(url: str, server: PostgresServer, num_rows: int) -> str:
    server.execute(
        "CREATE TABLE rows AS SELECT i::bigint AS id, i % 7 AS k, 'word ' || i AS word, 1 AS version,"
        f" repeat('x', 200) AS pad FROM generate_series(1, {num_rows}) i",
        url,
    )
    return url


@pytest.fixture
def proxy(postgres_server: PostgresServer) -> Iterator[FaultProxy]:
    """A proxy in front of the server."""
    with FaultProxy(postgres_server.port) as made:
        yield made


def through(proxy: FaultProxy, url: str) -> str:
    return re.sub(r":\d+/", f":{proxy.port}/", url)


def source(url: str, told: list[tuple[str, Any]] | None = None, **settings: Any) -> DatabaseSource:
    config = DatabaseConfig(**{"url": url, "table": "rows", **settings})
    heard = [] if told is None else told
    return DatabaseSource(config, clock=InstantClock(), tell=lambda event, fields: heard.append((event, fields)))


def ids(rows_of: DatabaseSource) -> list[int]:
    return [row for rows in rows_of.read_once() for row in rows.column("id").to_pylist()]


@pytest.mark.parametrize("cuts", [[6_000_000], [1_500_000, 5_000_000, 5_500_000], [20_000, 20_000, 9_000_000]])
def test_a_dropped_connection_goes_on_behind_the_last_key(proxy: FaultProxy, table: str, cuts: list[int]) -> None:
    """C1: Reset again and again in the middle of the rows, a keyed read has every row once, in order, and says so."""
    told: list[tuple[str, Any]] = []
    proxy.cut_after = [limit for cut in cuts for limit in (None, cut)]  # the driver asks for types first
    assert ids(source(through(proxy, table), told, key=["id"])) == list(range(1, NUM_ROWS + 1))
    assert proxy.num_connections == 2 * (len(cuts) + 1)
    assert [event for event, _ in told] == ["source_reconnecting"] * len(cuts)
    resumed = [int(fields["resumed_after"]) for _, fields in told if fields["resumed_after"] is not None]
    assert resumed == sorted(resumed)


def test_without_a_key_a_broken_read_ends_and_says_that_it_starts_again(proxy: FaultProxy, table: str) -> None:
    """C1: Nobody can tell which rows were seen, so nothing is continued; the rows so far are to be discarded."""
    told: list[tuple[str, Any]] = []
    proxy.cut_after = [None, 6_000_000]
    proxy.may_cut.clear()
    rows_of = source(through(proxy, table), told).read_once()
    next(rows_of)  # a connection that is lost before any row is seen is simply made again
    proxy.may_cut.set()
    with pytest.raises(SourceReadError, match="starts again from the first"):
        list(rows_of)
    assert told[-1][0] == "source_broken"
    assert ids(source(through(proxy, table))) == list(range(1, NUM_ROWS + 1))


def test_the_server_restarted_in_the_middle(proxy: FaultProxy, table: str, postgres_server: PostgresServer) -> None:
    """C1: A crash and a new start of the server cost a keyed read nothing."""
    rows_of = source(through(proxy, table), key=["id"]).read_once()
    got = next(rows_of).column("id").to_pylist()
    postgres_server.stop()
    postgres_server.start()
    got += [row for rows in rows_of for row in rows.column("id").to_pylist()]
    assert got == list(range(1, NUM_ROWS + 1))


def test_a_connection_that_an_administrator_ends_is_made_anew(table: str, postgres_server: PostgresServer) -> None:
    """C1: so does a server that hands over to another: its last word is no error of the statement."""
    told: list[tuple[str, Any]] = []
    rows_of = source(table, told, key=["id"]).read_once()
    got = next(rows_of).column("id").to_pylist()
    postgres_server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'corelane'", table
    )
    got += [row for rows in rows_of for row in rows.column("id").to_pylist()]
    assert got == list(range(1, NUM_ROWS + 1))
    assert [event for event, _ in told] == ["source_reconnecting"]


def test_an_error_of_the_statement_in_the_middle_is_none_of_the_connection(table: str) -> None:
    """C1: what would fail again is not tried again."""
    told: list[tuple[str, Any]] = []
    query = "SELECT id, 1 / (50000 - id) AS share, pad FROM rows"
    with pytest.raises(DataError, match="must run the statement, got: division by zero"):
        list(source(table, told, table=None, query=query, key=["id"]).read_once())
    assert not told


def test_when_retries_are_used_up_the_last_key_is_named(proxy: FaultProxy, table: str) -> None:
    """C1: After `max_retries` failures in a row the error says behind which key the read stopped."""
    rows_of = source(through(proxy, table), key=["id"], max_retries=2).read_once()
    last = next(rows_of).column("id")[-1].as_py()
    proxy.is_refusing = True
    proxy.reset_all()
    seen = [last]
    with pytest.raises(SourceReadError, match=r"given up behind the key (\d+) after 3 tries") as caught:
        seen.extend(rows.column("id")[-1].as_py() for rows in rows_of)
    assert f"behind the key {seen[-1]} after" in str(caught.value)


def test_a_version_column_that_moved_stops_the_read(
    proxy: FaultProxy, table: str, postgres_server: PostgresServer
) -> None:
    """C2: After a reconnection a changed version means other data: the read stops and mixes nothing."""
    rows_of = source(through(proxy, table), key=["id"], version_column="version").read_once()
    next(rows_of)
    postgres_server.execute("UPDATE rows SET version = 2 WHERE id = 5", table)
    proxy.reset_all()
    with pytest.raises(DataError, match="must not change while they are read, but version did"):
        list(rows_of)


def test_one_snapshot_for_the_whole_read(table: str, postgres_server: PostgresServer) -> None:
    """C2: Rows added, changed and removed while the read lasts are not seen by it; the next read sees them."""
    rows_of = source(table, key=["id"]).read_once()
    got = next(rows_of).column("id").to_pylist()
    postgres_server.execute(
        "DELETE FROM rows WHERE id > 50000; INSERT INTO rows VALUES (999999, 0, 'new', 1, '')", table
    )
    got += [row for rows in rows_of for row in rows.column("id").to_pylist()]
    assert got == list(range(1, NUM_ROWS + 1))
    assert ids(source(table, key=["id"]))[-1] == 999_999


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_one_snapshot_of_a_sqlite_file(tmp_path: Path, journal: str) -> None:
    """C2: who writes to the file while it is read is not seen, or has to wait."""
    path = tmp_path / "rows.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, pad TEXT)")
        connection.executemany("INSERT INTO rows VALUES (?, 'x')", [(index,) for index in range(30_000)])
        connection.commit()
        rows_of = source(f"sqlite:///{path}", batch_rows=1000).read_once()
        got = next(rows_of).column("id").to_pylist()
        try:
            connection.execute("PRAGMA busy_timeout = 0")
            connection.execute("DELETE FROM rows WHERE id > 20000")
            connection.commit()
        except sqlite3.OperationalError as error:
            assert journal == "delete"
            assert "locked" in str(error)  # noqa: PT017 - whichever of both happens is right
            connection.rollback()
        got += [row for rows in rows_of for row in rows.column("id").to_pylist()]
    assert got == list(range(30_000))


def test_a_change_between_two_reads_is_noticed(table: str, postgres_server: PostgresServer) -> None:
    """C2: Data that changed after its fingerprint was taken are refused at the end of the next read."""
    reader = source(table, key=["id"])
    before = reader.fingerprint()
    postgres_server.execute("UPDATE rows SET word = 'other' WHERE id = 7", table)
    with pytest.raises(DataError, match="must not change between two reads"):
        list(reader.batches())
    assert source(table, key=["id"]).fingerprint() != before


def test_a_lock_that_is_not_released_ends_in_a_timeout(table: str, postgres_server: PostgresServer) -> None:
    """C3: Waiting for somebody's lock ends after `statement_timeout_s`, with what to do."""
    import adbc_driver_postgresql.dbapi as driver

    with driver.connect(table) as blocker, blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE rows IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DataError, match=r"must end within 0\.2 s, got a timeout; raise"):
            ids(source(table, statement_timeout_s=0.2))


def running(server: PostgresServer, url: str) -> list[int]:
    """The server's processes that run a statement of ours in that database."""
    found = server.ask(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'corelane' AND datname = current_database()"
        " AND state = 'active'",
        url,
    )
    return [int(line) for line in found.split()]


def slow_after(row: int) -> str:
    """A query whose rows cease to come behind `row` for a minute."""
    return (
        "SELECT id, pad FROM rows, LATERAL (SELECT CASE WHEN id = "
        f"{row} THEN pg_sleep(60) END) AS pause WHERE id <= 50000"
    )


@pytest.mark.parametrize("row", [1, 40_000])
def test_a_slow_query_ends_in_a_timeout(table: str, postgres_server: PostgresServer, row: int) -> None:
    """C3: rows that do not come within `statement_timeout_s`, at the beginning or later, are given up, and the query
    is cancelled on the server.
    """
    with pytest.raises(DataError, match=r"must end within 0\.5 s, got a timeout; raise"):
        list(source(table, table=None, query=slow_after(row), statement_timeout_s=0.5).read_once())
    assert running(postgres_server, table) == []


def test_a_long_read_is_not_a_slow_one(table: str, postgres_server: PostgresServer) -> None:
    """C3: the limit is one of waiting for rows. Whoever takes their time over them does not run into it."""
    rows_of = source(table, key=["id"], statement_timeout_s=2.0).read_once()
    got = next(rows_of).column("id").to_pylist()
    postgres_server.execute("SELECT pg_sleep(2.5)")
    got += [row for rows in rows_of for row in rows.column("id").to_pylist()]
    assert got == list(range(1, NUM_ROWS + 1))


def test_a_server_that_falls_silent_is_left(
    table: str, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C1, C3: a connection that lives and says nothing, not even to a cancellation, is left behind, and a keyed read
    goes on over a new one.
    """
    monkeypatch.setattr(interruptible, "GRACE_S", 0.5)
    told: list[tuple[str, Any]] = []
    rows_of = source(table, told, key=["id"], statement_timeout_s=2.0).read_once()
    got = next(rows_of).column("id").to_pylist()
    (silent,) = running(postgres_server, table)
    os.kill(silent, signal.SIGSTOP)
    try:
        got += [row for rows in rows_of for row in rows.column("id").to_pylist()]
    finally:
        os.kill(silent, signal.SIGCONT)
    assert got == list(range(1, NUM_ROWS + 1))
    ((event, fields),) = told
    assert event == "source_reconnecting"
    assert "got silence for 2 s" in fields["reason"]


def test_a_stop_is_not_kept_waiting_by_a_query(table: str, postgres_server: PostgresServer, tmp_path: Path) -> None:
    """C3: asked to stop while a query runs, the command leaves at once, and the query ends on the server too."""
    data = {"source": {"type": "database", "url": table, "query": slow_after(1)}, "target": "id"}
    config = {"name": "slow", "data": data, "machine": {"cache": str(tmp_path / "cache")}}
    (tmp_path / "slow.yaml").write_text(json.dumps(config))
    command = [sys.executable, "-m", "corelane", "train", "slow.yaml", "--runs", "runs"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        until(lambda: process.poll() is not None or bool(running(postgres_server, table)))
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 75, errors
    until(lambda: not running(postgres_server, table))


def until(is_so: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait for it."""
    end = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_an_iterator_closed_early_leaves_no_query_behind(table: str, postgres_server: PostgresServer) -> None:
    """C3: Closing in the middle ends the transaction on the server: the table can be dropped at once."""
    rows_of = source(table, key=["id"]).read_once()
    next(rows_of)
    rows_of.close()  # type: ignore[attr-defined]
    dropped = threading.Thread(target=postgres_server.execute, args=("DROP TABLE rows", table))
    dropped.start()
    dropped.join(timeout=20)
    assert not dropped.is_alive()


ATTACKS = ['rows"; DROP TABLE rows; --', "rows; DROP TABLE rows", "pg_shadow WHERE true --", "rows\0", '"', "a.b.c.d"]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("where", ["table", "columns", "key", "version_column"])
def test_names_cannot_carry_statements(few: str, attack: str, where: str) -> None:
    """C4: Whatever stands where a name belongs is looked for as a name, not found, and does nothing."""
    value: Any = [attack] if where in ("columns", "key") else attack
    with pytest.raises((DataError, ConfigError)):
        source(few, **{where: value}).schema()
    assert len(ids(source(few))) == NUM_FEW


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1; DROP TABLE rows",
        "SELECT * FROM rows) AS q; DROP TABLE rows; --",
        "DROP TABLE rows",
        "WITH gone AS (DELETE FROM rows RETURNING id) SELECT * FROM gone",
        "SELECT setval('s', 1)",
        "SELECT set_config('transaction_read_only', 'off', true), setval('s', 1)",
        "SELECT * FROM rows FOR UPDATE",
        "SELECT 'x' AS a /* ; */ ; -- \n DELETE FROM rows",
        "",
    ],
)
def test_a_query_can_only_read(few: str, query: str, postgres_server: PostgresServer) -> None:
    """C4: Several statements, other statements and statements in disguise are refused, by us or by the session."""
    postgres_server.execute("CREATE SEQUENCE s", few)
    with pytest.raises((DataError, ConfigError, ValueError)):
        list(source(few, table=None, query=query).read_once())
    assert len(ids(source(few))) == NUM_FEW


@pytest.mark.parametrize("value", ["word 5", "'; DROP TABLE rows; --", "\\'; --", ":id", "$1", "%s", "é'\"\n"])
def test_values_are_bound(few: str, value: str) -> None:
    """C4: A value is compared, whatever it says; texts, comments and casts in the query are left alone."""
    query = "SELECT id, ':value' AS literal, word::text FROM rows WHERE word = :value AND id < :most -- :value"
    found = list(source(few, table=None, query=query, parameters={"value": value, "most": 100}).read_once())
    rows = [row for batch in found for row in batch.to_pylist()]
    assert rows == ([{"id": 5, "literal": ":value", "word": "word 5"}] if value == "word 5" else [])


def test_secrets_are_not_told(postgres_server: PostgresServer) -> None:
    """C4: A password in the URL appears in no message, event or fingerprint."""
    told: list[tuple[str, Any]] = []
    url = f"postgresql://postgres:geheim@127.0.0.1:{postgres_server.port}/absent"
    with pytest.raises(ConfigError) as caught:
        source(url, told).fingerprint()
    assert "geheim" not in f"{caught.value} {caught.value.detail} {told}"
    assert 'database "absent" does not exist' in str(caught.value)


@pytest.mark.parametrize("values", [["a", "b", "b"], ["b", None, "c"]])
def test_a_key_that_is_none_is_refused(tmp_path: Path, values: list[Any]) -> None:
    """C1: A key that repeats or is missing would lose rows at a resume: it is an error before that."""
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        connection.execute("CREATE TABLE rows (id, word)")
        connection.executemany("INSERT INTO rows VALUES (?, 'x')", [(value,) for value in values])
    connection.close()
    with pytest.raises(DataError, match="the key"):
        list(source(f"sqlite:///{tmp_path}/rows.db", key=["id"]).read_once())
