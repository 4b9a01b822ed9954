"""One door to all sources."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from corelane.core.errors import ConfigError
from corelane.data.config import FileSystemConfig
from corelane.data.manager import DataSourceManager
from tests.faults.http_server import Content, FaultServer

ROWS = [{"a": "1", "b": "x"}, {"a": "3", "b": None}]


def test_rows_come_as_dicts_from_every_type(tmp_path: Path) -> None:
    """A mapping or a section, by type name, gives the rows: of a file, a database, a URL, and of memory."""
    (tmp_path / "rows.csv").write_text("a,b\n1,x\n3,\n")
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        connection.execute("CREATE TABLE rows (a TEXT PRIMARY KEY, b TEXT)")
        connection.executemany("INSERT INTO rows VALUES (?, ?)", [tuple(row.values()) for row in ROWS])
    connection.close()
    manager = DataSourceManager()
    path = str(tmp_path / "rows.csv")
    assert list(manager.get_data_iterator("filesystem", {"path": path})) == ROWS
    assert list(manager.get_data_iterator("filesystem", FileSystemConfig(path=path))) == ROWS
    database = {"url": f"sqlite:///{tmp_path}/rows.db", "table": "rows"}
    assert list(manager.get_data_iterator("database", database)) == ROWS
    with FaultServer() as server:
        server.routes["/rows.csv"] = Content((tmp_path / "rows.csv").read_bytes())
        http = {"url": server.url + "/rows.csv", "allow_http": True, "allow_private": ["127.0.0.1"]}
        assert list(manager.get_data_iterator("http", http)) == ROWS
        assert list(manager.get_data_iterator("http", {"type": "http", **http})) == ROWS


@pytest.mark.parametrize(
    "config",
    [
        {"rows": ROWS},
        {"type": "memory", "rows": pa.Table.from_pylist(ROWS), "batch_rows": 1},
        {"rows": {"a": np.array(["1", "3"]), "b": ["x", None]}},
        pd.DataFrame(ROWS),
        pl.DataFrame(ROWS),
        ROWS,
    ],
    ids=["dicts", "table", "arrays", "pandas", "polars", "rows themselves"],
)
def test_memory_takes_whatever_holds_rows(config: Any) -> None:
    """What a configuration file could not hold is given in its place."""
    assert list(DataSourceManager().get_data_iterator("memory", config)) == ROWS


def test_an_unknown_type_names_the_known() -> None:
    """A wrong type, and a wrong key of a right one, are told with what there is."""
    with pytest.raises(ConfigError, match="one of database, filesystem, http, memory, got 'ftp'"):
        DataSourceManager().get_data_iterator("ftp", {})
    with pytest.raises(ConfigError, match="did you mean 'path'"):
        DataSourceManager().get_data_iterator("filesystem", {"pth": "x"})
    with pytest.raises(ConfigError, match="must be a known key, got 'x'"):
        DataSourceManager().get_data_iterator("memory", {"x": np.arange(3)})
