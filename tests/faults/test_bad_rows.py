"""C11: rows that are wrong in every way. Each costs itself, has its place and reason, and moves no other row."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corelane.data.checked import check_piece, raw_pieces
from corelane.data.config import FileSystemConfig
from corelane.data.schema import Column, Schema
from corelane.data.sources.filesystem.source import FileSystemSource

FEW = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SCHEMA = Schema((Column("v", "numeric"),), (Column("label", "categorical", nullable=False),), "classification")

NO_NUMBERS = [
    b"x",
    b"1e400",
    b"-1e400",
    b"inf",
    b"-Infinity",
    b"9" * 400,
    b"1,5",
    b"1_000",
    b"0x10",
    b"1\x002",
    b"\xb2",
]
TORN = [b"a", b"a,1,2", b",,,", b"caf\xe9,1", b"\xff\xfe,1", b",1"]
"""Too few or too many cells, another encoding, no label."""
NO_JSON = [b"{", b"[1]", b"nothing", b'{"label": "a", "v": 1', b'{"label": "\xff", "v": 1}', b'{"v": 1}', b"NaN"]

Line = tuple[bytes, float | None]
"""A line, and its number if it is a good one."""

numbers = st.floats(-1e6, 1e6)
csv_lines: st.SearchStrategy[Line] = st.one_of(
    numbers.map(lambda number: (b"a,%r" % number, number)),
    st.sampled_from(NO_NUMBERS).map(lambda cell: (b'a,"%s"' % cell, None)),
    st.sampled_from(TORN).map(lambda line: (line, None)),
)
json_lines: st.SearchStrategy[Line] = st.one_of(
    numbers.map(lambda number: (json.dumps({"label": "a", "v": number}).encode(), number)),
    st.sampled_from(["x", "1e400", "inf", "1,5", {"a": 1}, [1, "x"], "9" * 400]).map(
        lambda value: (json.dumps({"label": "a", "v": value}).encode(), None)
    ),
    st.sampled_from(NO_JSON).map(lambda line: (line, None)),
)


def check(path: Path, lines: Sequence[Line]) -> None:
    """What is accepted and refused of `path` are `lines`: in order, each at its place."""
    source = FileSystemSource(FileSystemConfig(path=str(path), batch_rows=7))
    pieces = [check_piece(raw, "data", SCHEMA, tells=True) for raw in raw_pieces(source, 5)]
    values = [value for piece in pieces for value in piece.rows.column("v").to_pylist()]
    places = [int(position) for piece in pieces for position in piece.positions]
    assert dict(zip(places, values, strict=True)) == {
        i: value for i, (_, value) in enumerate(lines) if value is not None
    }
    assert places == sorted(places)
    refused = [row for piece in pieces for row in piece.refused]
    assert sorted(row.position for row in refused) == [i for i, (_, value) in enumerate(lines) if value is None]
    assert all(row.reason and row.code for row in refused)


@given(
    lines=st.lists(csv_lines, min_size=1, max_size=30),
    ends=st.lists(st.sampled_from([b"\n", b"\r\n"]), min_size=30, max_size=30),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
@FEW
def test_bad_lines_of_a_csv(tmp_path: Path, lines: list[Line], ends: list[bytes], mark: bytes) -> None:
    """Wrong arity, no numbers, numbers too large, NUL, other encodings; line ends mixed, a mark in front or not."""
    body = b"".join(line + end for (line, _), end in zip(lines, ends, strict=False))
    (tmp_path / "rows.csv").write_bytes(mark + b"label,v\n" + body)
    check(tmp_path / "rows.csv", lines)


@given(lines=st.lists(json_lines, min_size=1, max_size=30), mark=st.sampled_from([b"", b"\xef\xbb\xbf"]))
@FEW
def test_bad_lines_of_json(tmp_path: Path, lines: list[Line], mark: bytes) -> None:
    """No JSON, no objects, objects and lists for numbers, other encodings."""
    first = (b'{"label": "a", "v": 0.5}', 0.5)  # the columns are those of the first rows
    (tmp_path / "rows.jsonl").write_bytes(mark + b"\n".join(line for line, _ in [first, *lines]) + b"\n")
    check(tmp_path / "rows.jsonl", [first, *lines])


@pytest.mark.parametrize("missing", ["", "NaN", "nan", "NULL", "NA", " "])
def test_what_is_missing_is_no_fault(tmp_path: Path, missing: str) -> None:
    """A gap is imputed, not refused, where the column may have one."""
    (tmp_path / "rows.csv").write_text(f"label,v\na,1\na,{missing}\n")
    source = FileSystemSource(FileSystemConfig(path=str(tmp_path / "rows.csv")))
    (piece,) = (check_piece(raw, "data", SCHEMA, tells=True) for raw in raw_pieces(source, 5))
    assert piece.rows.column("v").to_pylist() == [1.0, None]
    assert not piece.refused


READ = """
import resource, sys
from corelane.core.errors import DataError
from corelane.data.config import FileSystemConfig
from corelane.data.sources.filesystem.source import FileSystemSource
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    batches = list(FileSystemSource(FileSystemConfig(path=sys.argv[1])).batches())
    print(sum(batch.rows.num_rows for batch in batches), [row.position for batch in batches for row in batch.broken])
except DataError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.parametrize(
    ("name", "begin", "end", "words"),
    [
        ("rows.jsonl", b'{"v": "', b'"}\n{"v": 2}\n', "2 [1]"),
        ("rows.csv", b'"', b'"\n2\n', "must fit in 4194304 bytes"),
    ],
)
def test_a_line_of_100_mb(tmp_path: Path, name: str, begin: bytes, end: bytes, words: str) -> None:
    """A line without end is not taken into memory: one broken row of JSON, an error that looks for the quote in CSV."""
    first = b'{"v": 1}\n' if name.endswith("jsonl") else b"v\n1\n"
    with (tmp_path / name).open("wb") as file:
        file.write(first + begin)
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(end)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / name)], capture_output=True, text=True, check=True
    )
    said, grown_mib = done.stdout.splitlines()
    assert words in said
    assert int(grown_mib) < 60
