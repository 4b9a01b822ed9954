"""SQLite: one type a column, rows in order, and a file that is only read."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from corelane.core.errors import ConfigError, DataError
from corelane.data.config import DatabaseConfig
from corelane.data.sources.database import DatabaseSource
from corelane.data.sources.database.sqlite import SqliteSnapshot


def rows_of(**config: Any) -> list[dict[str, Any]]:
    return list(DatabaseSource.get_iterator(config))


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


def test_a_key_of_mixed_values_is_in_the_order_it_is_shown_in(file: str) -> None:
    """C1: whole numbers among texts are texts, in the order of the rows as in the condition that goes on behind one."""
    config = DatabaseConfig(url=file, query="SELECT mixed AS id FROM loose WHERE id > 24990 AND id < 25010", key=["id"])
    snapshot = SqliteSnapshot(config)
    ids = [row["id"] for batch in snapshot.read(None) for row in batch.to_pylist()]
    assert ids == sorted(ids)
    assert "x" in ids
    assert [row["id"] for batch in snapshot.read((ids[7],)) for row in batch.to_pylist()] == ids[8:]
    snapshot.close()


@pytest.mark.parametrize(
    ("encoding", "kind", "ids"),
    [("UTF-8", "TEXT", [None, None, "a"]), ("UTF-8", "", [1, "1"]), ("UTF-16le", "TEXT", ["\U0001f600", "\uffff"])],
)
def test_a_primary_key_that_nobody_declared_need_not_rise(
    tmp_path: Path, encoding: str, kind: str, ids: list[Any]
) -> None:
    """Nothing goes on behind it: keys may be missing, be equal as texts, or lie in another order of texts."""
    with sqlite3.connect(tmp_path / "keys.db") as connection:
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        connection.execute(f"CREATE TABLE t (id {kind} PRIMARY KEY, n INT)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(key, index) for index, key in enumerate(ids)])
    connection.close()
    rows = rows_of(url=f"sqlite:///{tmp_path}/keys.db", table="t")
    assert sorted(row["n"] for row in rows) == list(range(len(ids)))


@pytest.mark.parametrize("value", ["CAST(x'61ff' AS TEXT)", "x'61ff'"], ids=["text", "bytes among texts"])
def test_texts_that_are_no_utf8_are_told_where_they_are_read(tmp_path: Path, value: str) -> None:
    """SQLite takes any bytes for a text; the column that holds such is named."""
    with sqlite3.connect(tmp_path / "texts.db") as connection:
        connection.execute("CREATE TABLE t (id INT, word TEXT)")
        connection.execute(f"INSERT INTO t VALUES (1, 'good'), (2, {value})")
    connection.close()
    with pytest.raises(DataError, match=r"the texts in the column word of .*texts\.db must be UTF-8"):
        rows_of(url=f"sqlite:///{tmp_path}/texts.db", table="t")
