"""A SQLite file for the tests of this folder."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest


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
