"""C16: data from which nothing, or not much, can be learned. What is hopeless is an error before the first step, what
is doubtful a warning; the check of the data says the same beforehand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corelane.app import train
from corelane.app.data_check import check
from corelane.core.errors import DataError

NUM_ROWS = 400


def table(**changes: Any) -> dict[str, list[Any]]:
    """A table that can be learned from, but for `changes`."""
    random = np.random.default_rng(0)
    good = {
        "x": random.normal(size=NUM_ROWS).tolist(),
        "colour": [("red", "green", "blue")[row % 3] for row in range(NUM_ROWS)],
        "y": [("a", "b")[row // 2 % 2] for row in range(NUM_ROWS)],
    }
    return good | changes


def trained(folder: Path, rows: dict[str, list[Any]], **data: Any) -> list[dict[str, Any]]:
    """The log of a short training, all streams in the order of time."""
    config = {
        "name": "unlearnable",
        "data": {"target": "y", **data},
        "train": {"epochs": 1},
        "machine": {"cache": str(folder / "cache"), "threads": 1},
    }
    run = train(config, data=rows, runs=folder / "runs", quiet=True)
    lines = [line for path in (run.directory / "logs").glob("*.jsonl") for line in path.read_text().splitlines()]
    return sorted(map(json.loads, lines), key=lambda entry: str(entry["timestamp"]))


def checked(folder: Path, rows: dict[str, list[Any]], **data: Any) -> dict[str, Any]:
    """What `corelane data check` says of the same rows."""
    pq.write_table(pa.table(rows), folder / "rows.parquet")
    overrides = [f"data.{key}={json.dumps(value)}" for key, value in data.items()]
    return check(str(folder / "rows.parquet"), overrides, target="y")


NOTHING_LEFT = {"columns": {"x": {"kind": "numeric", "minimum": 1000.0, "on_fault": "drop"}}}


@pytest.mark.parametrize(
    ("rows", "data", "error", "problem"),
    [
        (table(x=[None] * NUM_ROWS), {}, "x must have at least one value", "x must have at least one value"),
        (table(x=[float("nan")] * NUM_ROWS), {}, "x must have at least one value", "x must have at least one value"),
        (table(y=["a"] * NUM_ROWS), {}, "at least two different labels", "at least two different labels"),
        (table(), NOTHING_LEFT, "at least one training row, got none", "a row to train on, got none"),
    ],
    ids=["missing everywhere", "NaN everywhere", "one class", "no row after the rules"],
)
def test_the_hopeless_is_an_error_before_training(
    tmp_path: Path, rows: dict[str, list[Any]], data: dict[str, Any], error: str, problem: str
) -> None:
    """Nothing is trained, the reason names the column or the rule, and the check calls it unusable."""
    with pytest.raises(DataError, match=error):
        trained(tmp_path, rows, **data)
    assert not list((tmp_path / "runs").glob("*/checkpoints/*"))
    answer = checked(tmp_path, rows, **data)
    assert not answer["usable"]
    assert any(problem in one["reason"] for one in answer["problems"])


@pytest.mark.parametrize(
    ("rows", "code", "column"),
    [
        (table(y=["rare"] * 4 + ["often"] * (NUM_ROWS - 4)), "rare_label", "y"),
        (table(x=[2.5] * NUM_ROWS), "constant", "x"),
        (table(colour=["red"] * NUM_ROWS), "constant", "colour"),
        (table(x=[0.5, 0.7, *[None] * (NUM_ROWS - 2)]), "nearly_empty", "x"),
        (table(colour=[f"row {row}" for row in range(NUM_ROWS)]), "identifier", "colour"),
    ],
    ids=["imbalance", "constant number", "constant category", "nearly empty", "identifier"],
)
def test_the_doubtful_is_a_warning_before_training(
    tmp_path: Path, rows: dict[str, list[Any]], code: str, column: str
) -> None:
    """It trains, but the log has the warning before the first step, and the check has it, too."""
    split = {"test": 0.0, "validation": 0.0}
    log = trained(tmp_path, rows, split=split)
    events = [entry["event"] for entry in log]
    warnings = [entry for entry in log if entry["event"] == "data_concern"]
    assert [(one["level"], one["concern"], one["columns"]) for one in warnings] == [("warning", code, [column])]
    assert events.index("data_concern") < events.index("training_started")
    answer = checked(tmp_path, rows)
    assert answer["usable"]
    assert [(one["code"], one["column"]) for one in answer["concerns"]] == [(code, column)]


def test_what_is_fine_raises_no_concern(tmp_path: Path) -> None:
    """No warning for ordinary data, or nobody would read them."""
    assert not [entry for entry in trained(tmp_path, table()) if entry["level"] == "warning"]
    assert checked(tmp_path, table())["concerns"] == []
