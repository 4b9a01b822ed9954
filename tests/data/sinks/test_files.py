"""Result files: whole or absent, in three formats."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from corelane.core.errors import ConfigError
from corelane.data.sinks.files import open_file_sink

BATCHES = [
    pa.RecordBatch.from_pydict({"row": [0, 1], "label": ["a", None]}),
    pa.RecordBatch.from_pydict({"row": [2], "label": ['with "quotes", commas\nand lines']}),
]


def _read(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".parquet":
        return pa.parquet.read_table(path).to_pylist()
    if path.suffix == ".csv":
        options = pa.csv.ParseOptions(newlines_in_values=True)
        convert = pa.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
        return pa.csv.read_csv(path, parse_options=options, convert_options=convert).to_pylist()
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_rows_read_back_in_order(tmp_path: Path, ending: str) -> None:
    """What went in comes out, missing values and awkward texts included."""
    path = tmp_path / f"answers.{ending}"
    with open_file_sink(path) as sink:
        for batch in BATCHES:
            sink.write(batch)
    assert _read(path) == pa.Table.from_batches(BATCHES).to_pylist()


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_failure_leaves_the_old_file(tmp_path: Path, ending: str) -> None:
    """An error in the middle publishes nothing, leaves no temporary file, and keeps what was there."""
    path = tmp_path / f"answers.{ending}"
    path.write_text("before")

    def write_and_fail() -> None:
        with open_file_sink(path) as sink:
            sink.write(BATCHES[0])
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_and_fail()
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    """The ending decides the format, so one that is not known is an error that lists those that are."""
    with pytest.raises(ConfigError, match=r"\.parquet, \.csv, \.jsonl"), open_file_sink(tmp_path / "answers.xlsx"):
        pass
