"""`FileSystemSource`: the format is found, wrong paths are said, and files that change meanwhile are noticed."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corelane.core.errors import ConfigError, DataError
from corelane.data.config import FileSystemConfig
from corelane.data.sources.filesystem.source import FileSystemSource, detect_format


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One of everything."""
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    (tmp_path / "packed.CSV.gz").write_bytes(gzip.compress(b"a,b\n1,2\n"))
    pq.write_table(pa.table({"a": [1]}), tmp_path / "rows.parquet")
    (tmp_path / "nameless").write_bytes((tmp_path / "rows.parquet").read_bytes())
    (tmp_path / "train-images").write_bytes(gzip.compress(b"\0\0\x08\x02\0\0\0\1\0\0\0\1x"))
    (tmp_path / "images" / "cat").mkdir(parents=True)
    (tmp_path / "images" / "cat" / "1.png").write_bytes(b"x")
    (tmp_path / "parts").mkdir()
    for name, rows in {"b.csv": "a,b\n3,4\n", "a.csv": "a,b\n1,2\n", ".hidden.csv": "z\n"}.items():
        (tmp_path / "parts" / name).write_text(rows)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("rows.csv", "csv"),
        ("packed.CSV.gz", "csv"),
        ("rows.parquet", "parquet"),
        ("nameless", "parquet"),
        ("train-images", "idx"),
        ("images", "images"),
        ("parts", "csv"),
    ],
)
def test_the_format_is_found(folder: Path, name: str, found: str) -> None:
    """By name where it says it, by the first bytes, or by what a folder holds."""
    assert detect_format(folder / name) == found


def test_a_folder_of_tables_is_one_table(folder: Path) -> None:
    """Files are read in the order of their names, hidden ones not at all; their columns must agree."""
    source = FileSystemSource(FileSystemConfig(path="parts"), folder)
    assert [row for batch in source.batches() for row in batch.rows.column("a").to_pylist()] == ["1", "3"]
    (folder / "parts" / "c.csv").write_text("a,c\n1,2\n")
    with pytest.raises(DataError, match=r"c\.csv must have the columns of .*a\.csv \(a, b\), got a, c"):
        FileSystemSource(FileSystemConfig(path="parts"), folder)


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        ({"path": "none.csv"}, DataError, "nothing there"),
        ({"path": ""}, ValueError, "path"),
        ({"path": "."}, ConfigError, "format must be given"),
        ({"path": "images", "format": "csv"}, DataError, "a csv file or a folder of such files, got none"),
        ({"path": "images", "format": "idx"}, DataError, "must be a file, got a directory"),
        ({"path": "rows.csv", "format": "images"}, DataError, "one folder per label, got the file"),
        ({"path": "rows.csv", "format": "parquet"}, DataError, "whole Parquet file"),
        ({"path": "rows.csv", "labels": "rows.csv"}, ConfigError, "IDX files only"),
        ({"path": "train-images", "delimiter": ";"}, ConfigError, "delimiter must be given for CSV only"),
        ({"path": "train-images", "labels": "none"}, DataError, "data.source.labels must be a file"),
    ],
)
def test_wrong_paths_and_formats_are_said(
    folder: Path, config: dict[str, str], error: type[Exception], words: str
) -> None:
    """Each mistake is one line that names the key or the path."""
    with pytest.raises(error, match=words):
        FileSystemSource(FileSystemConfig(**config), folder)  # type: ignore[arg-type]


def test_paths_count_from_the_base(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path counts from `base`, an absolute one from nowhere."""
    monkeypatch.chdir("/")
    for path in ("rows.csv", str(folder / "rows.csv")):
        assert FileSystemSource(FileSystemConfig(path=path), folder).schema().names == ["a", "b"]


def test_a_file_that_changes_while_it_is_read_is_noticed(folder: Path) -> None:
    """Grown, replaced or touched between two readings, or during one: an error, never a mixture of old and new."""
    path = folder / "rows.csv"
    source = FileSystemSource(FileSystemConfig(path="rows.csv", batch_rows=1), folder)
    batches = source.batches()
    next(batches)
    with path.open("a") as file:
        file.write("3,4\n")
    with pytest.raises(DataError, match="must not change while it is read"):
        list(batches)
    with pytest.raises(DataError, match="must not change while it is read"):
        list(source.batches())


def test_a_file_of_the_same_size_and_other_bytes_has_another_fingerprint(folder: Path) -> None:
    """The fingerprint is of the bytes: equal size and equal times do not deceive it."""
    path = folder / "rows.csv"
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    before = FileSystemSource(FileSystemConfig(path="rows.csv"), folder).fingerprint()
    path.write_text("a,b\n1,3\n")
    os.utime(path, ns=times)
    assert FileSystemSource(FileSystemConfig(path="rows.csv"), folder).fingerprint() != before


def test_the_delimiter_is_part_of_the_fingerprint(folder: Path) -> None:
    """The same bytes cut up differently are other rows, so a cursor does not carry over."""
    prints = {FileSystemSource(FileSystemConfig(path="rows.csv", delimiter=cut), folder).fingerprint() for cut in ",;"}
    assert len(prints) == 2


def test_the_delimiter_of_tab_separated_files_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    """Equal bytes are other columns in `.tsv` files than in `.csv` files, each file of a folder by its own name."""
    prints = []
    for names in (("a.csv", "b.csv"), ("a.tsv", "b.tsv"), ("a.csv", "b.tsv"), ("a.csv.gz", "b.csv.gz")):
        folder = tmp_path / "-".join(names)
        folder.mkdir()
        for name in names:
            (folder / name).write_text("a\n1\n")
        prints.append(FileSystemSource(FileSystemConfig(path=folder.name), tmp_path).fingerprint())
        prints.append(FileSystemSource(FileSystemConfig(path=f"{folder.name}/{names[0]}"), tmp_path).fingerprint())
    assert len(set(prints[:6])) == 5, "the first file of the third folder is that of the first"
    assert prints[6:] == prints[:2], "a name that says nothing of cells changes nothing"
