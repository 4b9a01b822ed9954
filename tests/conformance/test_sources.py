"""The promises of `DataSource`, held by every source there is.

A new source joins by one entry in `CASES`: how the same eleven rows are stored for it, and how they change.
"""

from __future__ import annotations

import bz2
import gc
import gzip
import json
import lzma
import sqlite3
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from corelane.core.errors import CursorError
from corelane.data.batch import Batch, Cursor
from corelane.data.config import DatabaseConfig, FileSystemConfig, HTTPConfig, PagingConfig
from corelane.data.source import DataSource, iterate_rows
from corelane.data.sources.database import DatabaseSource
from corelane.data.sources.filesystem.source import FileSystemSource
from corelane.data.sources.http import HTTPSource
from corelane.data.sources.memory import InMemorySource
from corelane.store.tiers.disk import DiskTier
from tests.faults.http_server import Content, FaultServer, reply
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import Bucket

NUM_ROWS = 11


@dataclass(frozen=True)
class Case:
    """How a source is made over rows derived from `shift`, in batches of `batch_rows`; other shifts give other rows."""

    make: Callable[[Path, int, int], DataSource]
    columns: tuple[str, ...]
    value: Callable[[dict[str, Any]], tuple[Any, ...]]


def _table(shift: int) -> pa.Table:
    numbers = [index * 0.5 + shift for index in range(NUM_ROWS)]
    words = [None if index == 3 else f"word {index}" for index in range(NUM_ROWS)]
    return pa.table({"number": numbers, "word": words})


def _csv(folder: Path, shift: int, batch_rows: int) -> DataSource:
    pyarrow.csv.write_csv(_table(shift), folder / "rows.csv")
    return FileSystemSource(FileSystemConfig(path="rows.csv", batch_rows=batch_rows), folder)


def _tsv(folder: Path, shift: int, batch_rows: int) -> DataSource:
    options = pyarrow.csv.WriteOptions(delimiter="\t")
    pyarrow.csv.write_csv(_table(shift), folder / "rows.tsv", options)
    return FileSystemSource(FileSystemConfig(path="rows.tsv", batch_rows=batch_rows), folder)


def _packed_csv(folder: Path, shift: int, batch_rows: int) -> DataSource:
    pyarrow.csv.write_csv(_table(shift), folder / "rows.csv")
    (folder / "rows.csv.gz").write_bytes(gzip.compress((folder / "rows.csv").read_bytes(), mtime=0))
    return FileSystemSource(FileSystemConfig(path="rows.csv.gz", batch_rows=batch_rows), folder)


def _parquet(folder: Path, shift: int, batch_rows: int) -> DataSource:
    pyarrow.parquet.write_table(_table(shift), folder / "rows.parquet", row_group_size=4)
    return FileSystemSource(FileSystemConfig(path="rows.parquet", batch_rows=batch_rows), folder)


def _parquet_folder(folder: Path, shift: int, batch_rows: int) -> DataSource:
    (folder / "parts").mkdir(exist_ok=True)
    for index, (first, end) in enumerate([(0, 5), (5, 5), (5, NUM_ROWS)]):
        pyarrow.parquet.write_table(_table(shift).slice(first, end - first), folder / "parts" / f"{index}.parquet")
    return FileSystemSource(FileSystemConfig(path="parts", batch_rows=batch_rows), folder)


def _arrow(folder: Path, shift: int, batch_rows: int) -> DataSource:
    with pa.OSFile(str(folder / "rows.arrow"), "wb") as file, pa.ipc.new_file(file, _table(shift).schema) as writer:
        writer.write_table(_table(shift), max_chunksize=4)
    return FileSystemSource(FileSystemConfig(path="rows.arrow", batch_rows=batch_rows), folder)


def _arrow_stream(folder: Path, shift: int, batch_rows: int) -> DataSource:
    with pa.OSFile(str(folder / "rows.arrows"), "wb") as file, pa.ipc.new_stream(file, _table(shift).schema) as writer:
        writer.write_table(_table(shift), max_chunksize=3)
    return FileSystemSource(FileSystemConfig(path="rows.arrows", batch_rows=batch_rows), folder)


def _json_lines(folder: Path, shift: int, batch_rows: int) -> DataSource:
    lines = [json.dumps(row) for row in _table(shift).to_pylist()]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    return FileSystemSource(FileSystemConfig(path="rows.jsonl", batch_rows=batch_rows), folder)


def _json_array(folder: Path, shift: int, batch_rows: int) -> DataSource:
    (folder / "rows.json").write_text(json.dumps(_table(shift).to_pylist(), indent=1))
    return FileSystemSource(FileSystemConfig(path="rows.json", batch_rows=batch_rows), folder)


def _packed(ending: str, pack: Callable[[bytes], bytes]) -> Callable[[Path, int, int], DataSource]:
    def make(folder: Path, shift: int, batch_rows: int) -> DataSource:
        pyarrow.csv.write_csv(_table(shift), folder / "plain.csv")
        (folder / f"rows.csv.{ending}").write_bytes(pack((folder / "plain.csv").read_bytes()))
        return FileSystemSource(FileSystemConfig(path=f"rows.csv.{ending}", batch_rows=batch_rows), folder)

    return make


def _by_arrow(codec: str) -> Callable[[bytes], bytes]:
    def pack(data: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(data)
        return bytes(sink.getvalue())

    return pack


def _glob(folder: Path, shift: int, batch_rows: int) -> DataSource:
    for index, (first, end) in enumerate([(0, 5), (5, NUM_ROWS)]):
        part = folder / f"year={index}" / "rows.parquet"
        part.parent.mkdir(exist_ok=True)
        pyarrow.parquet.write_table(_table(shift).slice(first, end - first), part)
    return FileSystemSource(FileSystemConfig(path="year=*/*.parquet", batch_rows=batch_rows), folder)


def _remote(folder: Path, shift: int, batch_rows: int) -> DataSource:
    pyarrow.parquet.write_table(_table(shift), folder / "rows.parquet", row_group_size=4)
    config = FileSystemConfig(path=f"file://{folder}/rows.parquet", batch_rows=batch_rows)
    return FileSystemSource(config, cache=DiskTier(folder / "cache"))


def _s3(bucket: Bucket) -> Case:
    def make(folder: Path, shift: int, batch_rows: int) -> DataSource:
        for index, (first, end) in enumerate([(0, 5), (5, NUM_ROWS)]):
            pyarrow.parquet.write_table(_table(shift).slice(first, end - first), folder / "part.parquet")
            bucket.files.put(str(folder / "part.parquet"), f"{bucket.url}/{folder.name}/{index}.parquet")
        path = f"{bucket.url}/{folder.name}"
        return FileSystemSource(FileSystemConfig(path=path, storage_options=bucket.options, batch_rows=batch_rows))

    return replace(TABLE, make=make)


def _npz(folder: Path, shift: int, batch_rows: int) -> DataSource:
    pixels = (np.arange(NUM_ROWS * 6) + shift).astype(np.uint8).reshape(NUM_ROWS, 2, 3)
    np.savez_compressed(folder / "rows.npz", image=pixels, label=np.arange(NUM_ROWS))
    return FileSystemSource(FileSystemConfig(path="rows.npz", batch_rows=batch_rows), folder)


def _idx(folder: Path, shift: int, batch_rows: int) -> DataSource:
    images = (np.arange(NUM_ROWS * 6) + shift).astype(np.uint8)
    labels = np.arange(NUM_ROWS).astype(np.uint8)
    (folder / "images").write_bytes(struct.pack(">HBBIII", 0, 8, 3, NUM_ROWS, 2, 3) + images.tobytes())
    (folder / "labels").write_bytes(gzip.compress(struct.pack(">HBBI", 0, 8, 1, NUM_ROWS) + labels.tobytes(), mtime=0))
    return FileSystemSource(FileSystemConfig(path="images", labels="labels", batch_rows=batch_rows), folder)


def _images(folder: Path, shift: int, batch_rows: int) -> DataSource:
    for index in range(NUM_ROWS):
        path = folder / "images" / ("cat" if index < 5 else "dog") / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), index + shift).save(path)
    return FileSystemSource(FileSystemConfig(path="images", batch_rows=batch_rows), folder)


def _memory_table(folder: Path, shift: int, batch_rows: int) -> DataSource:
    return InMemorySource(_table(shift), batch_rows=batch_rows)


def _memory_rows(folder: Path, shift: int, batch_rows: int) -> DataSource:
    return InMemorySource(_table(shift).to_pylist(), batch_rows=batch_rows)


def _memory_pandas(folder: Path, shift: int, batch_rows: int) -> DataSource:
    return InMemorySource(_table(shift).to_pandas(), batch_rows=batch_rows)


def _memory_polars(folder: Path, shift: int, batch_rows: int) -> DataSource:
    return InMemorySource(pl.from_arrow(_table(shift)), batch_rows=batch_rows)


def _memory_torch(folder: Path, shift: int, batch_rows: int) -> DataSource:
    pixels = torch.arange(shift, NUM_ROWS * 6 + shift, dtype=torch.int64).to(torch.uint8).reshape(NUM_ROWS, 2, 3)
    return InMemorySource({"image": pixels, "label": torch.arange(NUM_ROWS)}, batch_rows=batch_rows)


def _memory_arrays(folder: Path, shift: int, batch_rows: int) -> DataSource:
    pixels = (np.arange(NUM_ROWS * 6) + shift).astype(np.uint8).reshape(NUM_ROWS, 2, 3)
    return InMemorySource({"image": pixels, "label": np.arange(NUM_ROWS)}, batch_rows=batch_rows)


def _sqlite(folder: Path, shift: int, batch_rows: int, scheme: str = "sqlite") -> DataSource:
    (folder / "rows.db").unlink(missing_ok=True)
    with sqlite3.connect(folder / "rows.db") as connection:
        connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, number REAL, word TEXT)")
        rows = [(index, row["number"], row["word"]) for index, row in enumerate(_table(shift).to_pylist())]
        connection.executemany("INSERT INTO rows VALUES (?, ?, ?)", rows)
    connection.close()
    return _database(f"{scheme}:///{folder}/rows.db", batch_rows)


def _by_sqlalchemy(folder: Path, shift: int, batch_rows: int) -> DataSource:
    return _sqlite(folder, shift, batch_rows, "sqlite+pysqlite")


def _postgresql(server: PostgresServer) -> Case:
    url = server.new_database()

    def make(folder: Path, shift: int, batch_rows: int) -> DataSource:
        table = f'"{folder.name}"'
        rows = enumerate(_table(shift).to_pylist())
        values = ", ".join(f"({i}, {row['number']}, {_literal(row['word'])})" for i, row in rows)
        server.execute(
            f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (id int PRIMARY KEY, number float8, word text);"
            f" INSERT INTO {table} VALUES {values}",
            url,
        )
        return _database(url, batch_rows, folder.name)

    return replace(DATABASE, make=make)


def _http(server: FaultServer) -> Case:
    def make(folder: Path, shift: int, batch_rows: int) -> DataSource:
        pyarrow.csv.write_csv(_table(shift), folder / "rows.csv")
        data = (folder / "rows.csv").read_bytes()
        server.routes[f"/{folder.name}/rows.csv"] = Content(data, etag=f'"{shift}"')
        config = HTTPConfig(
            url=f"{server.url}/{folder.name}/rows.csv",
            allow_http=True,
            allow_private=["127.0.0.1"],
            batch_rows=batch_rows,
        )
        return HTTPSource(config, cache=DiskTier(folder / "cache"))

    return replace(TABLE, make=make)


def _pages(server: FaultServer) -> Case:
    """A JSON API that gives four rows a page."""

    def make(folder: Path, shift: int, batch_rows: int) -> DataSource:
        rows = _table(shift).to_pylist()
        for first in range(0, NUM_ROWS, 4):
            following = f"/{folder.name}/{first + 4}" if first + 4 < NUM_ROWS else None
            page = {"rows": rows[first : first + 4], "next": following}
            server.routes[f"/{folder.name}/{first}"] = reply(json.dumps(page).encode())
        config = HTTPConfig(
            url=f"{server.url}/{folder.name}/0",
            paging=PagingConfig(records="rows", next_link="next"),
            allow_http=True,
            allow_private=["127.0.0.1"],
            batch_rows=batch_rows,
        )
        return HTTPSource(config, cache=DiskTier(folder / "cache"))

    return replace(TABLE, make=make)


@pytest.fixture
def http_server() -> Iterator[FaultServer]:
    """A server on loopback."""
    with FaultServer() as server:
        yield server


def _literal(word: str | None) -> str:
    return "NULL" if word is None else f"'{word}'"


def _database(url: str, batch_rows: int, table: str = "rows") -> DataSource:
    return DatabaseSource(DatabaseConfig(url=url, table=table, key=["id"], batch_rows=batch_rows))


def _text(row: dict[str, Any]) -> tuple[Any, ...]:
    return float(row["number"]), row["word"]


def _pixels(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["image"].tolist(), int(row["label"])


def _encoded(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["image"], row["label"]


TABLE = Case(_csv, ("number", "word"), _text)
DATABASE = replace(TABLE, make=_sqlite, columns=("id", "number", "word"))
PIXELS = Case(_idx, ("image", "label"), _pixels)
CASES = {
    "csv": TABLE,
    "csv.gz": replace(TABLE, make=_packed_csv),
    "parquet": replace(TABLE, make=_parquet),
    "parquet folder": replace(TABLE, make=_parquet_folder),
    "table in memory": replace(TABLE, make=_memory_table),
    "dicts in memory": replace(TABLE, make=_memory_rows),
    "csv.bz2": replace(TABLE, make=_packed("bz2", bz2.compress)),
    "csv.xz": replace(TABLE, make=_packed("xz", lzma.compress)),
    "csv.zst": replace(TABLE, make=_packed("zst", _by_arrow("zstd"))),
    "csv.lz4": replace(TABLE, make=_packed("lz4", _by_arrow("lz4"))),
    "arrow": replace(TABLE, make=_arrow),
    "arrow stream": replace(TABLE, make=_arrow_stream),
    "json lines": replace(TABLE, make=_json_lines),
    "json array": replace(TABLE, make=_json_array),
    "glob": replace(TABLE, make=_glob),
    "file url": replace(TABLE, make=_remote),
    "pandas": replace(TABLE, make=_memory_pandas),
    "polars": replace(TABLE, make=_memory_polars),
    "sqlite": DATABASE,
    "sqlite by sqlalchemy": replace(DATABASE, make=_by_sqlalchemy),
    "tsv": replace(TABLE, make=_tsv),
    "npz": replace(PIXELS, make=_npz),
    "torch": replace(PIXELS, make=_memory_torch),
    "idx": PIXELS,
    "arrays in memory": replace(PIXELS, make=_memory_arrays),
    "image folder": Case(_images, ("image", "label"), _encoded),
}


@pytest.fixture(scope="module", autouse=True)
def _s3_server(s3_options: dict[str, Any]) -> None:
    """The server is started before the first test, whose children are counted."""


@pytest.fixture(params=[*CASES, "s3", "http", "pages", pytest.param("postgresql", marks=pytest.mark.needs("postgres"))])
def case(request: pytest.FixtureRequest) -> Case:
    """One kind of source."""
    if request.param == "postgresql":
        return _postgresql(request.getfixturevalue("postgres_server"))
    if request.param == "http":
        return _http(request.getfixturevalue("http_server"))
    if request.param == "pages":
        return _pages(request.getfixturevalue("http_server"))
    if request.param == "s3":
        return _s3(request.getfixturevalue("bucket"))
    return CASES[request.param]


def _rows(case: Case, batches: list[Batch]) -> list[tuple[Any, ...]]:
    return [row for batch in batches for row in _values(case, batch)]


def _values(case: Case, batch: Batch) -> list[tuple[Any, ...]]:
    return [case.value(row) for row in iterate_rows(_Single(batch))]


@dataclass
class _Single:
    """A source of one batch, to turn the batch into rows the way a caller would."""

    batch: Batch
    name = "single"
    is_local = True

    def schema(self) -> pa.Schema:
        return self.batch.rows.schema

    def fingerprint(self) -> Any:
        raise AssertionError

    def batches(self, start: Cursor | None = None) -> Any:
        yield self.batch


def test_same_rows_in_the_same_order_whichever_source(case: Case, tmp_path: Path) -> None:
    """Sources that hold the same rows give the same rows, in the order in which they are stored."""
    rows = [case.value(row) for row in iterate_rows(case.make(tmp_path, 0, 4))]
    if case.value is _encoded:
        assert [label for _, label in rows] == ["cat"] * 5 + ["dog"] * 6
        assert [image for image, _ in rows] == [path.read_bytes() for path in sorted(tmp_path.glob("images/*/*"))]
        return
    other = TABLE if case.value is _text else PIXELS
    (tmp_path / "other").mkdir()
    assert rows == [other.value(row) for row in iterate_rows(other.make(tmp_path / "other", 0, 4))]
    assert len(rows) == NUM_ROWS


def test_batches_are_bounded_typed_and_cover_every_position(case: Case, tmp_path: Path) -> None:
    """No batch has more rows than configured; all have the schema announced; positions run from 0 without a gap."""
    source = case.make(tmp_path, 0, 4)
    batches = list(source.batches())
    assert source.schema().names == list(case.columns)
    position = 0
    for batch in batches:
        assert batch.rows.num_rows <= 4
        assert batch.rows.schema.equals(source.schema())
        assert batch.first_position == position
        assert batch.positions.tolist() == list(range(position, position + batch.rows.num_rows))
        position = batch.next_cursor.position
    assert position == NUM_ROWS


@pytest.mark.parametrize("batch_rows", [1, 4, 100])
def test_resume_from_any_cursor_without_gap_or_repeat(case: Case, tmp_path: Path, batch_rows: int) -> None:
    """Whatever the cursor, and through JSON, what was read before it and what is read from it are all rows, once."""
    source = case.make(tmp_path, 0, batch_rows)
    rows = _rows(case, list(source.batches()))
    template = next(iter(source.batches())).next_cursor
    for position in range(NUM_ROWS + 1):
        cursor = Cursor.from_json(replace(template, position=position).to_json())
        resumed = list(case.make(tmp_path, 0, batch_rows).batches(cursor))
        assert _rows(case, resumed) == rows[position:]
        assert all(batch.first_position >= position for batch in resumed)


def test_batch_size_does_not_change_the_rows(case: Case, tmp_path: Path) -> None:
    """Batches of any size hold the same rows."""
    assert _rows(case, list(case.make(tmp_path, 0, 3).batches())) == _rows(
        case, list(case.make(tmp_path, 0, 100).batches())
    )


def test_the_fingerprint_is_that_of_the_content(case: Case, tmp_path: Path) -> None:
    """The same data made again has the same fingerprint, other data another one."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, same = case.make(tmp_path / "a", 0, 4), case.make(tmp_path / "b", 0, 100)
    assert first.fingerprint() == same.fingerprint()
    assert first.fingerprint().strength == "content"
    assert case.make(tmp_path / "b", 1, 4).fingerprint() != first.fingerprint()


def test_a_cursor_of_other_data_or_another_source_is_refused(case: Case, tmp_path: Path) -> None:
    """A cursor is never applied to rows it was not taken from."""
    cursor = next(iter(case.make(tmp_path, 0, 4).batches())).next_cursor
    changed = case.make(tmp_path, 1, 4)
    with pytest.raises(CursorError, match="changed"):
        list(changed.batches(cursor))
    with pytest.raises(CursorError, match="source"):
        list(changed.batches(replace(cursor, source="elsewhere")))


def test_iterators_are_independent_and_release_their_files(case: Case, tmp_path: Path) -> None:
    """Two iterators of one source do not disturb each other, and one that is closed early holds no file open.

    What is open is looked at in the process itself. The lock that keeps a download in the cache is on a folder.
    """
    source = case.make(tmp_path, 0, 2)
    one, two = source.batches(), source.batches()
    first = next(one)
    assert _values(case, next(two)) == _values(case, first)
    assert _rows(case, [first, *one]) == _rows(case, list(source.batches()))
    two.close()  # type: ignore[attr-defined]
    del one, two
    gc.collect()
    opened = [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    assert not [path for path in opened if path.startswith(str(tmp_path)) and not Path(path).is_dir()]
