"""Several files read as one, and folders' names as columns: positions run through, whatever is broken or empty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from corelane.core.errors import DataError
from corelane.data.batch import BrokenRow
from corelane.data.sources.filesystem.files import FrozenFile
from corelane.data.sources.filesystem.reader import Chunk, ConcatenatedReader, PartitionReader


class Rows:
    """A reader of the numbers `rows`, in chunks of `size`; None stands for a row that is broken."""

    def __init__(self, rows: Sequence[int | None], size: int = 2, name: str = "a") -> None:
        self.files = (FrozenFile(Path(f"{name}.csv"), 0, 0),)
        self._rows, self._size, self._name = rows, size, name

    def schema(self) -> pa.Schema:
        return pa.schema([(self._name, pa.int64())])

    def read(self, start: int) -> Iterator[Chunk]:
        for first in range(start, len(self._rows), self._size):
            taken = self._rows[first : first + self._size]
            broken = tuple(BrokenRow(first + i, "torn", "") for i, row in enumerate(taken) if row is None)
            whole = pa.RecordBatch.from_arrays(
                [pa.array([r for r in taken if r is not None], pa.int64())], [self._name]
            )
            yield Chunk(whole, first, first + len(taken), broken)


def seen(chunks: Iterator[Chunk]) -> list[tuple[int, int | None]]:
    """Each position with its number, or None where it is broken."""
    found: list[tuple[int, int | None]] = []
    for chunk in chunks:
        holes = {row.position for row in chunk.broken}
        places = [place for place in range(chunk.first, chunk.end) if place not in holes]
        found += zip(places, chunk.rows.column(0).to_pylist(), strict=True)
        found += [(place, None) for place in holes]
    return sorted(found, key=lambda entry: entry[0])


PARTS = [[0, 1, None], [], [None], [4, None, None, 7, 8], []]
ALL = [0, 1, None, None, 4, None, None, 7, 8]


@pytest.mark.parametrize("start", range(len(ALL) + 1))
@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_positions_run_through_all_readers(start: int, size: int) -> None:
    """From any row on: none is lost, repeated or moved, broken ones and empty files among them."""
    reader = ConcatenatedReader([Rows(part, size) for part in PARTS])
    assert seen(reader.read(start)) == list(enumerate(ALL))[start:]


def test_files_of_other_columns_are_named() -> None:
    """With both lists of columns."""
    with pytest.raises(DataError, match=r"b\.csv must have the columns of a\.csv \(a\), got b"):
        ConcatenatedReader([Rows([1]), Rows([1], name="b")])


def test_folders_names_are_columns_of_text() -> None:
    """In every row; a missing one is null, and one that the file has too is refused."""
    reader = PartitionReader(Rows([1, 2, 3]), {"year": "2024", "month": None})
    assert reader.schema() == pa.schema([("a", pa.int64()), ("year", pa.string()), ("month", pa.string())])
    rows = [row for chunk in reader.read(1) for row in chunk.rows.to_pylist()]
    assert rows == [{"a": 2, "year": "2024", "month": None}, {"a": 3, "year": "2024", "month": None}]
    with pytest.raises(DataError, match="must not have the column 'a', its folder has it too"):
        PartitionReader(Rows([1]), {"a": "1"})
