"""The same rows in the same order under the same declared schema train the same weights, byte for byte, whichever
source they came from: files, memory, databases, a URL, an object store.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest

from corelane.app import train
from tests.faults.http_server import Content, FaultServer
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import Bucket

COLUMNS = {
    "id": {"kind": "numeric"},
    "length": {"kind": "numeric", "minimum": 0},
    "colour": {"kind": "categorical", "pattern": "[a-z]+"},
    "kind": {"kind": "categorical"},
}


def rows() -> pa.Table:
    """Numbers that need all their digits, gaps, categories, a few rows that the schema refuses, and copies."""
    random = np.random.default_rng(3)
    length = random.normal(10.0, 1.0, 600)
    length[::50] = -1.0
    colours = np.array(["red", "green", "blue"])[random.integers(0, 3, 600)]
    return pa.table(
        {
            "id": np.arange(600),
            "length": pa.array(length, mask=np.arange(600) % 17 == 0),
            "colour": pa.array(colours, mask=np.arange(600) % 23 == 0),
            "kind": np.where(length > 10.0, "long", "short"),
        }
    )


def weights(folder: Path, source: dict[str, Any] | None, data: Any = None) -> tuple[bytes, str]:
    """The final weights of a short training on `source` or `data`, and the digest of its prepared data."""
    read = {} if source is None else {"source": source}
    config = {
        "name": "same",
        "seed": 5,
        "data": {"target": "kind", "columns": COLUMNS, "deduplicate": ["length", "colour"], **read},
        "model": {"net": "mlp", "hidden": [16]},
        "train": {"epochs": 2, "batch_size": 32},
        "machine": {"cache": str(folder / "cache"), "threads": 1, "plan": "eager"},
    }
    run = train(config, data=data, runs=folder / "runs", quiet=True)
    newest = max((run.directory / "checkpoints").iterdir(), key=lambda path: int(path.name))
    facts = json.loads((run.directory / "data" / "data.json").read_text())
    assert facts["num_deduplicated"] > 10
    return (newest / "model.safetensors").read_bytes(), facts["prepared_digest"]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, s3_options: dict[str, Any]) -> tuple[bytes, str]:
    """What memory gives."""
    del s3_options  # the server starts before the tests whose children are counted
    return weights(tmp_path_factory.mktemp("memory"), None, rows())


FILES = {
    "csv": lambda path: pyarrow.csv.write_csv(rows(), path),
    "parquet": lambda path: pyarrow.parquet.write_table(rows(), path, row_group_size=70),
    "jsonl": lambda path: path.write_text("\n".join(json.dumps(row) for row in rows().to_pylist())),
    "feather": lambda path: pyarrow.feather.write_feather(rows(), str(path)),
}


@pytest.mark.parametrize("ending", FILES)
def test_files(tmp_path: Path, expected: tuple[bytes, str], ending: str) -> None:
    """CSV, Parquet, JSON lines and Arrow."""
    FILES[ending](tmp_path / f"rows.{ending}")
    assert weights(tmp_path, {"path": str(tmp_path / f"rows.{ending}"), "type": "filesystem"}) == expected


def test_memory_in_other_forms(tmp_path: Path, expected: tuple[bytes, str]) -> None:
    """Rows as dicts, and a pandas frame."""
    assert weights(tmp_path / "a", None, rows().to_pylist()) == expected
    assert weights(tmp_path / "b", None, rows().to_pandas()) == expected


def test_sqlite(tmp_path: Path, expected: tuple[bytes, str]) -> None:
    """A table in a file."""
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, length REAL, colour TEXT, kind TEXT)")
        values = [tuple(row.values()) for row in rows().to_pylist()]
        connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?)", values)
    connection.close()
    url = f"sqlite:///{tmp_path}/rows.db#rows"
    assert weights(tmp_path, url) == expected  # type: ignore[arg-type]


@pytest.mark.needs("postgres")
def test_postgresql(
    tmp_path: Path, expected: tuple[bytes, str], database: str, postgres_server: PostgresServer
) -> None:
    """A table on a server, in any physical order, put in order by its key."""
    values = [
        "(" + ", ".join("NULL" if v is None else repr(v) for v in row.values()) + ")" for row in rows().to_pylist()
    ]
    postgres_server.execute(
        "CREATE TABLE rows (id int PRIMARY KEY, length float8, colour text, kind text);"
        f" INSERT INTO rows VALUES {', '.join(reversed(values))}",
        database,
    )
    assert weights(tmp_path, {"type": "database", "url": database, "table": "rows", "key": ["id"]}) == expected


def test_http(tmp_path: Path, expected: tuple[bytes, str]) -> None:
    """A file behind a URL."""
    pyarrow.csv.write_csv(rows(), tmp_path / "rows.csv")
    with FaultServer() as server:
        server.routes["/rows.csv"] = Content((tmp_path / "rows.csv").read_bytes())
        source = {"type": "http", "url": server.url + "/rows.csv", "allow_http": True, "allow_private": ["127.0.0.1"]}
        assert weights(tmp_path, source) == expected


def test_s3(tmp_path: Path, expected: tuple[bytes, str], bucket: Bucket) -> None:
    """Two objects below a prefix."""
    for index, part in enumerate([rows().slice(0, 250), rows().slice(250)]):
        pyarrow.parquet.write_table(part, tmp_path / "part.parquet")
        bucket.files.put(str(tmp_path / "part.parquet"), f"{bucket.url}/rows/{index}.parquet")
    source = {"type": "filesystem", "path": f"{bucket.url}/rows", "storage_options": bucket.options}
    assert weights(tmp_path, source) == expected
