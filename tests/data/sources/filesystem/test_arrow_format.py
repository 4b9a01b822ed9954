"""Arrow files and streams: entered at any row, in bounded batches, checked before they are followed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pytest

from corelane.core.errors import DataError
from corelane.data.sources.filesystem.arrow_format import ArrowReader
from corelane.data.sources.filesystem.files import FrozenFile

TABLE = pa.table({"a": range(20), "b": pa.array([f"word {i % 3}" for i in range(20)]).dictionary_encode()})


def reader(path: Path, batch_rows: int = 4) -> ArrowReader:
    return ArrowReader(FrozenFile.freeze(path, "the file"), batch_rows)


def write(path: Path, form: str) -> None:
    if form.startswith("feather"):
        pyarrow.feather.write_feather(TABLE, str(path), compression=form.partition(" ")[2] or "uncompressed")
        return
    make = pa.ipc.new_file if form == "file" else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as file, make(file, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=7)


@pytest.mark.parametrize("form", ["file", "stream", "feather", "feather lz4", "feather zstd"])
def test_rows_from_any_position_in_bounded_chunks(tmp_path: Path, form: str) -> None:
    """Whatever batches the file has; dictionaries are the values they stand for."""
    write(tmp_path / "rows.arrow", form)
    made = reader(tmp_path / "rows.arrow")
    assert made.schema() == pa.schema([("a", pa.int64()), ("b", pa.string())])
    for start in range(21):
        chunks = list(made.read(start))
        rows = [row for chunk in chunks for row in chunk.rows.to_pylist()]
        assert rows == TABLE.to_pylist()[start:]
        assert all(chunk.rows.num_rows == chunk.end - chunk.first <= 4 for chunk in chunks)


@pytest.mark.parametrize("columns", [{"a": 1, "A": 2, "": 3}, {" ": 1}])
def test_columns_need_names(tmp_path: Path, columns: dict[str, int]) -> None:
    """A column without one is told."""
    table = pa.table({name: [value] for name, value in columns.items()})
    pyarrow.feather.write_feather(table, str(tmp_path / "rows.arrow"))
    with pytest.raises(DataError, match="must have a name"):
        reader(tmp_path / "rows.arrow")


@pytest.mark.parametrize("data", [b"", b"ARROW1", b"ARROW1\0\0" + b"x" * 100, b"rubbish" * 100])
def test_what_is_no_arrow_file_is_told(tmp_path: Path, data: bytes) -> None:
    """Nothing, a beginning, rubbish."""
    (tmp_path / "rows.arrow").write_bytes(data)
    with pytest.raises(DataError, match="must be a whole Arrow file"):
        reader(tmp_path / "rows.arrow")


def test_a_lying_offset_is_not_followed(tmp_path: Path) -> None:
    """Offsets that point behind the texts are found before they are read."""
    path = tmp_path / "rows.arrows"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, pa.schema([("a", pa.string())])) as writer:
        writer.write_table(pa.table({"a": ["a", "bc"]}))
    right, lying = (np.array([0, 1, end], np.int32).tobytes() for end in (3, 1 << 30))
    assert path.read_bytes().count(right) == 1
    path.write_bytes(path.read_bytes().replace(right, lying))
    with pytest.raises(DataError, match="got a damaged one"):
        list(reader(path).read(0))
