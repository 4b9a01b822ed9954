"""JSON rows: what each kind of value is as a cell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from corelane.core.errors import DataError
from corelane.data.sources.filesystem.files import FrozenFile
from corelane.data.sources.filesystem.jsonl_format import JsonLinesReader


def reader(folder: Path, text: str, batch_rows: int = 100) -> JsonLinesReader:
    (folder / "rows.jsonl").write_text(text, encoding="utf-8")
    return JsonLinesReader(FrozenFile.freeze(folder / "rows.jsonl", "the file"), batch_rows)


def rows_of(made: JsonLinesReader, start: int = 0) -> list[dict[str, Any]]:
    return [row for chunk in made.read(start) for row in chunk.rows.to_pylist()]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ('"x"', "x"),
        ("1", "1"),
        ("1.0", "1"),
        ("0.1", "0.1"),
        ("1e300", str(int(1e300))),
        ("true", "true"),
        ("null", None),
        ('{"b": [1]}', '{"b":[1]}'),
        ('["x"]', '["x"]'),
        ('"\\u00e9\\ud83d\\ude00"', "\u00e9\U0001f600"),
    ],
)
def test_a_value_is_the_text_that_a_csv_would_have(tmp_path: Path, value: str, cell: str | None) -> None:
    """Numbers as the category of the same number, nested values as JSON."""
    assert rows_of(reader(tmp_path, '{"a": ' + value + "}"))[0] == {"a": cell}


def test_lists_of_numbers_are_lists(tmp_path: Path) -> None:
    """Of any depth, if all rows agree; a missing one is null."""
    made = reader(tmp_path, '{"v": [1, 2.5], "m": [[1], [2]], "x": [1]}\n{"v": [3, 4], "m": [[5], [6]], "x": "y"}\n{}')
    kinds = {field.name: field.type for field in made.schema()}
    assert kinds == {"v": pa.list_(pa.float64()), "m": pa.list_(pa.list_(pa.float64())), "x": pa.string()}
    assert rows_of(made)[1] == {"v": [3.0, 4.0], "m": [[5.0], [6.0]], "x": "y"}
    assert rows_of(made)[2] == {"v": None, "m": None, "x": None}


def test_columns_are_the_keys_in_order_of_appearance(tmp_path: Path) -> None:
    """Of all first rows, not of the first alone."""
    assert reader(tmp_path, '{"b": 1}\n{"a": 2, "b": 3}\n').schema().names == ["b", "a"]


@pytest.mark.parametrize("start", range(5))
@pytest.mark.parametrize("form", ["lines", "array", "lines without end", "marked"])
def test_rows_from_any_position(tmp_path: Path, form: str, start: int) -> None:
    """Lines and one array are the same rows; blank lines, a mark in front and a missing last line end do not count."""
    rows = [{"a": str(index)} for index in range(4)]
    lines = [json.dumps(row) for row in rows]
    texts = {
        "lines": "\n\n".join(lines) + "\r\n",
        "array": json.dumps(rows, indent=1),
        "lines without end": "\n".join(lines),
        "marked": "\ufeff" + "\n".join(lines) + "\n",
    }
    assert rows_of(reader(tmp_path, texts[form], 3), start) == rows[start:]


@pytest.mark.parametrize(
    ("text", "words"),
    [('{"": 1}', "must have a name"), ('[{"a": 1},', "one JSON array or one object a line"), ("[]", "must hold JSON")],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, text: str, words: str) -> None:
    """Names that are none, an array that is cut, and nothing."""
    with pytest.raises(DataError, match=words):
        reader(tmp_path, text)


def test_depth_without_end_costs_a_row(tmp_path: Path) -> None:
    """A line of brackets does not exhaust the stack."""
    deep = '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"
    made = reader(tmp_path, '{"a": "1"}\n' + deep + '\n{"a": "2"}\n')
    assert [row["a"] for row in rows_of(made)] == ["1", "2"]
