"""Parquet: stored types, dictionaries unfolded, damage named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corelane.core.errors import DataError
from corelane.data.config import FileSystemConfig
from corelane.data.sources.filesystem.source import FileSystemSource


def _source(folder: Path, table: pa.Table, **options: int) -> FileSystemSource:
    pq.write_table(table, folder / "rows.parquet", **options)
    return FileSystemSource(FileSystemConfig(path="rows.parquet", batch_rows=4), folder)


def test_types_are_kept_and_dictionaries_unfolded(tmp_path: Path) -> None:
    """Columns come as stored; a dictionary column comes as its values; tensors stay tensors."""
    table = pa.table(
        {
            "number": pa.array([1.5, None], pa.float32()),
            "word": pa.array(["x", "y"]).dictionary_encode(),
            "pixels": pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 3, 4), np.uint8)),
        }
    )
    source = _source(tmp_path, table)
    assert source.schema().types == [pa.float32(), pa.string(), pa.fixed_shape_tensor(pa.uint8(), [3, 4])]
    (batch,) = source.batches()
    assert batch.rows.schema == source.schema()
    assert batch.rows.column("word").to_pylist() == ["x", "y"]


@pytest.mark.parametrize("start", range(21))
def test_resume_across_row_groups(tmp_path: Path, start: int) -> None:
    """Wherever it starts, whole row groups are skipped and the rows are those from there on."""
    source = _source(tmp_path, pa.table({"a": list(range(20))}), row_group_size=6)
    cursor = next(iter(source.batches())).next_cursor
    batches = list(source.batches(type(cursor)(cursor.source, cursor.fingerprint, start)))
    assert [value for batch in batches for value in batch.rows.column("a").to_pylist()] == list(range(start, 20))
    assert [int(position) for batch in batches for position in batch.positions] == list(range(start, 20))


def test_damage_is_named(tmp_path: Path) -> None:
    """A cut file fails at the start; damaged pages fail when they are read; names must be unique."""
    table = pa.table({"a": list(range(10_000)), "b": [f"word {index}" for index in range(10_000)]})
    whole = tmp_path / "rows.parquet"
    _source(tmp_path, table)
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="whole Parquet file"):
        FileSystemSource(FileSystemConfig(path="rows.parquet"), tmp_path)
    whole.write_bytes(data[:2000] + bytes(30_000) + data[32_000:])
    with pytest.raises(DataError, match="whole Parquet file"):
        list(FileSystemSource(FileSystemConfig(path="rows.parquet"), tmp_path).batches())
    with pytest.raises(DataError, match="different names"):
        _source(tmp_path, pa.Table.from_arrays([[1], [2]], names=["a", "a"]))


@pytest.mark.parametrize("texts", [[b"good", b"\xff"], [b"good", b"\xff"] * 500], ids=["plain", "dictionary"])
def test_texts_that_are_no_utf8_are_told_where_they_are_read(tmp_path: Path, texts: list[bytes]) -> None:
    """The file only says that they are; the column is named, and nothing breaks behind the reading."""
    source = _source(tmp_path, pa.table({"a": range(len(texts)), "word": pa.array(texts).view(pa.string())}))
    for read in (source.batches, source.encoded_batches):
        with pytest.raises(DataError, match=r"the texts in the column word of .*rows\.parquet must be UTF-8"):
            list(read())


def test_texts_that_repeat_are_read_as_dictionaries_of_the_same_rows(tmp_path: Path) -> None:
    """Stored indices are not unfolded on the way; texts that hardly repeat, and everything in `batches`, are plain."""
    table = pa.table(
        {
            "level": [None if index % 10 == 3 else f"level {index % 7}" for index in range(5000)],
            "text": [f"a text of its own, number {index}" for index in range(5000)],
            "number": list(range(5000)),
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=2000)
    source = FileSystemSource(FileSystemConfig(path="rows.parquet", batch_rows=900), tmp_path)
    encoded, plain = list(source.encoded_batches()), list(source.batches())
    kinds = [pa.dictionary(pa.int32(), pa.string()), pa.string(), pa.int64()]
    assert all(batch.rows.schema.types == kinds for batch in encoded)
    assert all(batch.rows.schema == source.schema() for batch in plain)
    for batches in (encoded, plain):
        assert [row for batch in batches for row in batch.rows.to_pylist()] == table.to_pylist()
        assert [batch.first_position for batch in batches] == [batch.first_position for batch in plain]


def test_batches_of_wide_rows_are_smaller(tmp_path: Path) -> None:
    """However many rows are asked for, a batch has about 32 MiB at most."""
    table = pa.table({"bytes": [bytes(1 << 20)] * 80})
    pq.write_table(table, tmp_path / "rows.parquet", use_dictionary=False, compression="none")
    source = FileSystemSource(FileSystemConfig(path="rows.parquet"), tmp_path)
    assert max(batch.rows.num_rows for batch in source.batches()) <= 32


READ = """
import sys
from corelane.data.config import FileSystemConfig
from corelane.data.sources.filesystem.source import FileSystemSource
for batch in FileSystemSource(FileSystemConfig(path=sys.argv[1])).encoded_batches():
    pass
# Not ru_maxrss: a process inherits that of its parent.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_memory_does_not_grow_with_the_file_nor_its_row_groups(tmp_path: Path) -> None:
    """Five times the rows, all in one row group (128 MB more), take no more than 20 MB more at the peak."""
    peaks = []
    for num_rows in (200_000, 1_000_000):
        values = np.random.default_rng(0).random((20, num_rows))
        path = tmp_path / f"{num_rows}.parquet"
        pq.write_table(pa.table({f"x{index}": column for index, column in enumerate(values)}), path)
        assert pq.read_metadata(path).num_row_groups == 1
        result = subprocess.run(
            [sys.executable, "-c", READ, str(path)], check=True, capture_output=True, text=True, timeout=60
        )
        peaks.append(int(result.stdout) / 1024)
    assert peaks[1] - peaks[0] < 20, peaks
