"""CSV: strings with their place, torn lines kept apart, and files that are no CSV refused in one line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from corelane.core.errors import DataError
from corelane.data.batch import Batch
from corelane.data.config import FileSystemConfig
from corelane.data.sources.filesystem.source import FileSystemSource


def _source(folder: Path, content: bytes, name: str = "rows.csv", **config: object) -> FileSystemSource:
    (folder / name).write_bytes(content)
    return FileSystemSource(FileSystemConfig(path=name, **config), folder)  # type: ignore[arg-type]


def _rows(source: FileSystemSource) -> list[list[str | None]]:
    return [list(row.values()) for batch in source.batches() for row in batch.rows.to_pylist()]


def _broken(batches: list[Batch]) -> list[tuple[int, str]]:
    return [(row.position, row.reason) for batch in batches for row in batch.broken]


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1,x\n2,y\n",
        b"a,b\r\n1,x\r\n2,y",
        b"a,b\r1,x\r2,y\r",
        b"\xef\xbb\xbfa,b\n1,x\n2,y\n",
        b'"a","b"\n"1","x"\n"2","y"\n',
        b"\na,b\n\n1,x\n\n\n2,y\n\n",
    ],
    ids=["plain", "crlf", "cr", "bom", "quoted", "blank lines"],
)
def test_the_dialects_people_have(tmp_path: Path, content: bytes) -> None:
    """Line ends, a byte order mark, quotes and blank lines do not change what is read."""
    source = _source(tmp_path, content)
    assert source.schema().names == ["a", "b"]
    assert _rows(source) == [["1", "x"], ["2", "y"]]


def test_cells_are_strings_as_they_stand(tmp_path: Path) -> None:
    """Nothing is interpreted: leading zeros, NA, exponents and spaces stay; only an empty cell is missing."""
    source = _source(tmp_path, b'a,b\n007,NA\n1e400, x \n,""\n"line\nbreak, ""quoted""",\xc3\xa9\n')
    assert _rows(source) == [["007", "NA"], ["1e400", " x "], [None, None], ['line\nbreak, "quoted"', "é"]]


def test_header_with_quotes_and_line_breaks(tmp_path: Path) -> None:
    """A column name may hold the delimiter, quotes and a line break."""
    assert _source(tmp_path, b'"a,1","b\n""2"""\n1,2\n').schema().names == ["a,1", 'b\n"2"']
    inches = _source(tmp_path, b'size in ",b\n1,2\n3,4\n')
    assert (inches.schema().names, _rows(inches)) == (['size in "', "b"], [["1", "2"], ["3", "4"]])


@pytest.mark.parametrize(
    ("name", "delimiter", "content"), [("r.tsv", ",", b"a\tb\n1\t2\n"), ("r.csv", ";", b"a;b\n1;2\n")]
)
def test_other_delimiters(tmp_path: Path, name: str, delimiter: str, content: bytes) -> None:
    """A configured delimiter is used, and a tab for `.tsv`."""
    assert _rows(_source(tmp_path, content, name, delimiter=delimiter)) == [["1", "2"]]


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 100])
def test_torn_lines_keep_their_place(tmp_path: Path, batch_rows: int) -> None:
    """A line of too few or too many cells is a broken row with its position and reason; the others keep theirs."""
    content = b"a,b\n0\n1,x\n2,x,x\n3\n4,x\n\n5,x\n6\n"
    batches = list(_source(tmp_path, content, batch_rows=batch_rows).batches())
    read: list[tuple[int, str | None]] = []
    for batch in batches:
        read += zip(batch.positions.tolist(), batch.rows.column("a").to_pylist(), strict=True)
    assert read == [(1, "1"), (4, "4"), (5, "5")]
    assert [position for position, _ in _broken(batches)] == [0, 2, 3, 6]
    assert _broken(batches)[1][1] == "a row must have 2 cells, got 3"
    assert [row.text for batch in batches for row in batch.broken] == ["0", "2,x,x", "3", "6"]


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 100])
def test_lines_that_are_not_utf8_keep_their_place(tmp_path: Path, batch_rows: int) -> None:
    """C11: another encoding costs the row it is in, torn lines around it or not."""
    content = b"a,b\n0,x\n1,caf\xe9\n2\n3,caf\xc3\xa9\n\xff,\xfe\n5,x\n"
    batches = list(_source(tmp_path, content, batch_rows=batch_rows).batches())
    rows = [row for batch in batches for row in batch.rows.to_pylist()]
    assert rows == [{"a": "0", "b": "x"}, {"a": "3", "b": "caf\u00e9"}, {"a": "5", "b": "x"}]
    assert [int(position) for batch in batches for position in batch.positions] == [0, 3, 5]
    assert [position for position, _ in _broken(batches)] == [1, 2, 4]
    assert _broken(batches)[0][1] == r"b must be UTF-8 text, got b'caf\xe9'; save the file as UTF-8"


@pytest.mark.parametrize("start", range(9))
def test_resume_among_torn_lines(tmp_path: Path, start: int) -> None:
    """From any position on, readable and broken rows together are what they were, none lost and none twice."""
    source = _source(tmp_path, b"a,b\n0\n1,x\n2,x,x\n3\n4,x\n5,x\n6\n7\n", batch_rows=2)
    cursor = next(iter(source.batches())).next_cursor
    batches = list(source.batches(type(cursor)(cursor.source, cursor.fingerprint, start)))
    covered = [int(position) for batch in batches for position in batch.positions]
    covered += [position for position, _ in _broken(batches)]
    assert sorted(covered) == list(range(start, 8))


def test_a_large_file_streams_in_order(tmp_path: Path) -> None:
    """Over many blocks no row is lost, repeated or moved, torn ones included."""
    lines = [f"{index},{'x' * (index % 50)}" if index % 997 else f"{index}" for index in range(400_000)]
    source = _source(tmp_path, ("a,b\n" + "\n".join(lines)).encode(), batch_rows=10_000)
    batches = list(source.batches())
    read = [value for batch in batches for value in batch.rows.column("a").to_pylist()]
    assert read == [str(index) for index in range(400_000) if index % 997]
    assert [position for position, _ in _broken(batches)] == list(range(0, 400_000, 997))
    positions = [int(position) for batch in batches for position in batch.positions]
    assert positions == [index for index in range(400_000) if index % 997]
    assert max(batch.rows.num_rows for batch in batches) <= 10_000


PACKED = gzip.compress(
    b"a,b\n" + b"".join(b"%d,%d\n" % (index, index * 7919 % 1000) for index in range(50_000)), mtime=0
)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("r.csv", b"", "got an empty file"),
        ("r.csv", b"\n \n", "got an empty file"),
        ("r.csv", b"a,b,a\n1,2,3\n", "different names, got 'a' twice"),
        ("r.csv", b"a,,b\n1,2,3\n", "must have a name, got none for column 2"),
        ("r.csv", "a,b\n1,2\n".encode("utf-16"), "got UTF-16"),
        ("r.csv", b"a,\xe9\n1,2\n", "UTF-8 text, got other bytes in its header"),
        ("r.csv", b'a,b\n1,"' + b"x,y\n" * 1_500_000, "a quote that is never closed"),
        ("r.csv", b"a" * (2 << 20), "line of column names"),
        ("r.csv.gz", PACKED[: len(PACKED) // 2], "whole packed file"),
        ("r.csv.gz", PACKED[:20], "whole packed file"),
        ("r.csv.gz", PACKED[:5000] + b"\x55" + PACKED[5001:], "whole packed file"),
        ("r.csv.gz", PACKED[:-5] + b"\x55" + PACKED[-4:], "whole packed file"),
    ],
)
def test_what_is_no_csv_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    """Empty, torn or foreign files are a `DataError` that says what is wrong, at the start or when it is met."""
    with pytest.raises(DataError, match=words) as caught:
        list(_source(tmp_path, content, name).batches())
    assert "\n" not in str(caught.value)


def test_a_header_alone_is_a_file_of_no_rows(tmp_path: Path) -> None:
    """Without rows there are no batches; that this is too few to train is said by who needs rows."""
    assert list(_source(tmp_path, b"a,b\n").batches()) == []
