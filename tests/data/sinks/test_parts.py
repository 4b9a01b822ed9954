"""Kept rows: what is flushed survives, goes on where it ended, and is never mixed with rows of something else."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from corelane.core.errors import ConfigError, DataError
from corelane.data.sinks import parts
from corelane.data.sinks.parts import KeptRows

MADE_OF = {"package": "a", "data": "b"}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of ten rows."""
    monkeypatch.setattr(parts, "PART_ROWS", 10)


def rows(start: int, stop: int) -> Iterator[pa.RecordBatch]:
    """Batches of four rows."""
    for first in range(start, stop, 4):
        yield pa.RecordBatch.from_pydict({"row": list(range(first, min(first + 4, stop)))})


def rows_in(kept: KeptRows) -> list[int]:
    return [row for batch in kept.batches() for row in batch.column("row").to_pylist()]


def test_all_rows_come_back_in_order(tmp_path: Path) -> None:
    """In order, those of the last part too, which is not full; and afterwards nothing is left."""
    kept = KeptRows(tmp_path / "parts", MADE_OF)
    assert list(kept.keep(rows(0, 30))) == [4, 8, 12, 16, 20, 24, 28, 30]
    assert rows_in(kept) == list(range(30))
    kept.discard()
    assert list(tmp_path.iterdir()) == []


def test_it_goes_on_behind_what_was_flushed(tmp_path: Path) -> None:
    """Rows of the part that was under way are asked for again, and no row is there twice."""
    for num_rows in KeptRows(tmp_path / "parts", MADE_OF).keep(rows(0, 30)):
        if num_rows == 20:
            break
    again = KeptRows(tmp_path / "parts", MADE_OF)
    assert again.num_rows == 12
    list(again.keep(rows(12, 30)))
    assert rows_in(again) == list(range(30))


def test_rows_of_something_else_are_refused(tmp_path: Path) -> None:
    """Another package or other data: not mixed, and what is kept stays."""
    list(KeptRows(tmp_path / "parts", MADE_OF).keep(rows(0, 30)))
    with pytest.raises(ConfigError, match="begin anew"):
        KeptRows(tmp_path / "parts", {**MADE_OF, "data": "c"})
    assert KeptRows(tmp_path / "parts", MADE_OF).num_rows == 30


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    """A folder that is not ours is not written to."""
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="got other files"):
        KeptRows(tmp_path, MADE_OF)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("damage", ["missing", "torn"])
def test_a_damaged_part_is_told(tmp_path: Path, damage: str) -> None:
    """A part that is gone or cut short is an error with its name, not a gap in the answers."""
    list(KeptRows(tmp_path / "parts", MADE_OF).keep(rows(0, 30)))
    part = tmp_path / "parts" / "000000000000012.arrow"
    part.unlink() if damage == "missing" else part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(DataError, match="begin anew"):
        KeptRows(tmp_path / "parts", MADE_OF)
