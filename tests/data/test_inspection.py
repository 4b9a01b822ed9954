"""Looking at a source: it tells what preparing would do with the same rows, and all that stands in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from corelane.core.errors import ConfigError, DataError
from corelane.data.config import DataConfig, FileSystemConfig, MemoryConfig, PipelineConfig
from corelane.data.inspection import Inspection, inspect_source
from corelane.data.processor import CPUDataProcessor
from corelane.data.source import DataSource
from corelane.data.sources.filesystem.source import FileSystemSource
from corelane.data.sources.memory import InMemorySource


def inspected(source: DataSource | dict[str, Any], target: str | None = "y", **config: Any) -> Inspection:
    data = InMemorySource(source, batch_rows=7) if isinstance(source, dict) else source
    settings = DataConfig(source=MemoryConfig(), target=target or "-", **config)
    targets = () if target is None else (target,)
    with CPUDataProcessor(2) as processor:
        return inspect_source(
            data, settings, PipelineConfig(), targets, processor=processor, budget_bytes=config.pop("budget", 1 << 20)
        )


def columns(num_rows: int = 100) -> dict[str, list[Any]]:
    return {
        "id": [str(index) for index in range(num_rows)],
        "x": [str(index / 8) for index in range(num_rows)],
        "y": [("a", "b")[index % 2] for index in range(num_rows)],
    }


def problems(found: Inspection) -> list[str]:
    return [problem.reason for problem in found.problems]


def test_good_data_have_no_problem() -> None:
    """All rows are kept and described."""
    found = inspected(columns())
    assert (found.num_rows, found.num_kept, found.num_refused, found.problems) == (100, 100, 0, ())
    assert found.profile is not None
    assert [column.name for column in found.profile.columns] == ["id", "x", "y"]


def test_faults_are_counted_by_column_and_reason(tmp_path: Path) -> None:
    """Torn lines and bad cells: how many, where the first three are, and why the first was refused."""
    lines = ["x,y", *(f"{index},{'ab'[index % 2]}" for index in range(100))]
    for number in (3, 30, 31, 90):
        lines[number] = "broken,a"
    lines[40], lines[50] = "1", "5,"
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    found = inspected(FileSystemSource(FileSystemConfig(path="rows.csv"), tmp_path))
    assert [(fault.column, fault.code, fault.num_rows, fault.positions) for fault in found.faults] == [
        ("x", "not_a_number", 4, [2, 29, 30]),
        ("", "unreadable_row", 1, [39]),
        ("y", "missing", 1, [49]),
    ]
    assert found.faults[0].reason == "x must be a number, got 'broken'"
    assert (found.num_rows, found.num_kept, found.num_refused) == (100, 94, 6)
    assert problems(found) == ["at most 0.05 of the rows must be refused (data.max_rejected), got 6 of 100"]


def test_rules_of_rows() -> None:
    """Copies, repeated values and faults that drop are told as preparing would treat them; the profile has the rest."""
    data = columns()
    for name in data:
        data[name][50] = data[name][10]
    data["id"][60] = "20"
    data["x"][70] = "broken"
    declared = {"id": {"unique": True}, "x": {"kind": "numeric", "on_fault": "drop"}}
    found = inspected(data, columns=declared, deduplicate=True)
    assert (found.num_copies, found.num_refused, found.num_dropped, found.num_kept) == (1, 1, 1, 97)
    assert {fault.code: fault.is_dropped for fault in found.faults} == {"not_a_number": True, "duplicate_value": False}
    assert found.profile is not None
    assert found.profile.num_rows == 97


def test_every_problem_is_told_at_once() -> None:
    """Unusable columns do not hide each other, nor what the usable ones hold."""
    data = {**columns(), "empty": [None] * 100, "hollow": [""] * 100, "y": ["a"] * 100}
    found = inspected(data)
    assert problems(found) == [
        "the target y must have at least two different labels, got only 'a'; check data.target and the data",
        "empty must have at least one value, got none; leave it out with data.exclude",
        "hollow must have at least one value, got none; leave it out with data.exclude",
    ]
    assert found.profile is not None
    assert [column.name for column in found.profile.columns] == ["id", "x", "y"]


def test_problems_that_only_the_kept_rows_show() -> None:
    """One label, no value and no row are problems also when refusing rows made them so."""
    kept = {"y": {"categories": ["a"], "on_fault": "drop"}}
    assert (
        "at least two different labels, got only 'a' among the rows that are kept"
        in problems(inspected(columns(), columns=kept))[0]
    )
    hollow = {"x": {"kind": "numeric", "maximum": -1, "outside": "missing"}}
    assert "x must have a value in at least one row that is kept" in problems(inspected(columns(), columns=hollow))[0]
    nothing = {"x": {"kind": "numeric", "maximum": -1, "on_fault": "drop"}}
    assert problems(inspected(columns(), columns=nothing)) == [
        "there must be a row to train on, got none that is kept; see why rows are refused"
    ]


def test_no_column_can_be_used() -> None:
    """Rows are counted all the same."""
    found = inspected({"empty": [None] * 5, "y": ["a", "b", "a", "b", "a"]})
    assert (found.num_rows, found.profile) == (5, None)
    assert problems(found) == ["empty must have at least one value, got none; leave it out with data.exclude"]


def test_without_a_target_all_columns_are_features() -> None:
    """Nothing is predicted, so nothing has to be predictable."""
    found = inspected({"y": ["a"] * 5}, target=None)
    assert found.problems == ()
    assert found.profile is not None
    assert (found.profile.targets, found.profile.task, found.profile.num_columns) == ((), None, 1)


def test_what_is_wrong_as_a_whole_is_an_error() -> None:
    """No rows, an unknown name, and a declaration that cannot be."""
    with pytest.raises(DataError, match="at least one row"):
        inspected({"x": [], "y": []})
    with pytest.raises(DataError, match=r"data\.target must name columns of the data, got 'z'"):
        inspected(columns(), target="z")
    with pytest.raises(ConfigError, match="must be left out for a categorical column"):
        inspected(columns(), columns={"y": {"minimum": 1}, "x": {"kind": "categorical", "maximum": 2}})
