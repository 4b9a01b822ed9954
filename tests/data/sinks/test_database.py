"""Result tables of PostgreSQL and SQLite: whole or absent, and never over a table that is there."""

import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from corelane.core.errors import ConfigError, SinkWriteError
from corelane.data.sinks.database import open_table_sink
from corelane.data.sources.database import DatabaseSource
from tests.servers.ports import free_port
from tests.servers.postgres import PostgresServer

BATCHES = [
    pa.RecordBatch.from_pydict({"row": [0, 1], "chance": [0.25, None], "rejected": ["é; 'x'", None]}),
    pa.RecordBatch.from_pydict({"row": [2], "chance": [1.0], "rejected": pa.nulls(1, pa.string())}),
]
ROWS = pa.Table.from_batches(BATCHES).to_pylist()


def write(uri: str) -> None:
    with open_table_sink(uri) as sink:
        for batch in BATCHES:
            sink.write(batch)


def rows_of(uri: str) -> list[dict[str, Any]]:
    url, _, table = uri.partition("#")
    return list(DatabaseSource.get_iterator({"url": url, "table": table}))


def tables_of(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
    finally:
        connection.close()


def test_rows_read_back_from_sqlite(tmp_path: Path) -> None:
    """What went in comes out, missing values and awkward texts included; the file is made if need be."""
    uri = f"sqlite:///{tmp_path}/shop.db#answers"
    write(uri)
    assert rows_of(uri) == ROWS


@pytest.mark.needs("postgres")
@pytest.mark.parametrize("table", ["answers", "archive.answers", "The 'answers'"])
def test_rows_read_back_from_postgresql(database: str, postgres_server: PostgresServer, table: str) -> None:
    """Values and their types, in the schema that is named, whatever the name looks like."""
    postgres_server.execute("CREATE SCHEMA archive", database)
    write(f"{database}#{table}")
    assert rows_of(f"{database}#{table}") == ROWS


def fail_half_way(uri: str) -> None:
    with open_table_sink(uri) as sink:
        sink.write(BATCHES[0])
        raise RuntimeError("half way")


def test_a_failure_leaves_no_table_in_sqlite(tmp_path: Path) -> None:
    """An error in the middle publishes nothing."""
    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way(f"sqlite:///{tmp_path}/shop.db#answers")
    assert tables_of(tmp_path / "shop.db") == []


@pytest.mark.needs("postgres")
def test_a_failure_leaves_no_table_in_postgresql(database: str, postgres_server: PostgresServer) -> None:
    """An error in the middle publishes nothing."""
    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way(f"{database}#answers")
    assert postgres_server.ask("SELECT count(*) FROM pg_tables WHERE tablename = 'answers'", database) == "0\n"


@pytest.mark.needs("postgres")
def test_a_lost_connection_may_work_later(database: str, postgres_server: PostgresServer) -> None:
    """A server that ends the connection is a transient error, and nothing is published."""

    def write_and_lose() -> None:
        with open_table_sink(f"{database}#answers") as sink:
            sink.write(BATCHES[0])
            postgres_server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'"
            )
            sink.write(BATCHES[1])

    with pytest.raises(SinkWriteError, match="may work later"):
        write_and_lose()
    assert postgres_server.ask("SELECT count(*) FROM pg_tables WHERE tablename = 'answers'", database) == "0\n"


def test_a_table_that_is_there_stays(tmp_path: Path) -> None:
    """What is in a table may be somebody's: it is not replaced, and nothing is added to it."""
    uri = f"sqlite:///{tmp_path}/shop.db#answers"
    write(uri)
    with pytest.raises(ConfigError, match="must be a new table, got 'answers'"):
        write(uri)
    assert rows_of(uri) == ROWS


@pytest.mark.needs("postgres")
def test_a_table_of_postgresql_that_is_there_stays(database: str) -> None:
    """The same, in PostgreSQL's words."""
    write(f"{database}#answers")
    with pytest.raises(ConfigError, match="must be a new table, got 'answers'"):
        write(f"{database}#answers")
    assert rows_of(f"{database}#answers") == ROWS


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("sqlite:///shop.db", "must name a table behind #"),
        ("postgresql://me:secret@127.0.0.1/shop", "must name a table behind #"),
        ("mysql://me:secret@127.0.0.1/shop#answers", "must be a file or a table of PostgreSQL or SQLite"),
        ("s3://bucket/answers.parquet", "must be a file or a table of PostgreSQL or SQLite"),
        ("sqlite:////nowhere/at/all/shop.db#answers", "must lie in a folder that is there"),
    ],
)
def test_what_is_no_table_of_ours_is_refused(uri: str, words: str) -> None:
    """The message says what must be, and shows no password."""
    with pytest.raises(ConfigError, match=words) as caught:
        write(uri)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_stays(tmp_path: Path) -> None:
    """A file of another kind is refused and keeps its bytes."""
    path = tmp_path / "shop.db"
    path.write_bytes(b"something else " * 1000)
    with pytest.raises(ConfigError, match="must let us write"):
        write(f"sqlite:///{path}#answers")
    assert path.read_bytes() == b"something else " * 1000


def test_a_server_that_is_not_there_is_told() -> None:
    """Nobody listening is an error that may pass, without the password."""
    with pytest.raises(SinkWriteError) as caught:
        write(f"postgresql://me:secret@127.0.0.1:{free_port()}/shop#answers")
    assert "secret" not in str(caught.value) + str(caught.value.detail)
