"""Every task goes the whole way: training, a package that a real server in a child process answered alike for, offline
scoring and evaluation of its file, and rows asked of it by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from corelane.app import evaluate, load, package, predict, train

NUM_ROWS = 500


def table() -> pa.Table:
    """A number with gaps, two without, and targets of every kind that depend on them."""
    random = np.random.default_rng(5)
    x, y, z = random.normal(size=(3, NUM_ROWS))
    wet, cold = x + 0.2 * y > 0.3, y > 0
    return pa.table(
        {
            "x": pa.array(x, mask=np.arange(NUM_ROWS) % 29 == 0),
            "y": y,
            "z": z,
            "churned": np.where(wet, "yes", "no"),
            "kind": np.array(["ant", "bee", "cat"])[(x > 0).astype(int) + (y > 0)],
            "price": 300 + 20 * x - 5 * y,
            "wet": wet,
            "cold": cold.astype(int),
            "tags": [
                ";".join(name for name, is_set in zip(("wet", "cold"), row, strict=True) if is_set)
                for row in zip(wet, cold, strict=True)
            ],
        }
    )


CASES: dict[str, tuple[dict[str, Any], str, float]] = {
    "binary": ({"target": "churned"}, "auroc", 0.9),
    "two classes": ({"target": "churned", "task": "multi_class"}, "accuracy", 0.85),
    "positive named": ({"target": "churned", "task": "binary", "positive": "no"}, "average_precision", 0.9),
    "multi-class": ({"target": "kind"}, "accuracy", 0.8),
    "label columns": ({"target": ["wet", "cold"]}, "mean_auroc", 0.9),
    "labels in one column": ({"target": "tags", "separator": ";"}, "macro_f1", 0.8),
    "regression": ({"target": "price"}, "r2", 0.8),
}


@pytest.mark.parametrize("case", CASES)
def test_the_whole_way(tmp_path: Path, case: str) -> None:
    """What is learnt is good, and offline, served and asked by hand it is the same."""
    data, quality, least = CASES[case]
    pyarrow.csv.write_csv(table(), tmp_path / "rows.csv")
    targets = [data["target"]] if isinstance(data["target"], str) else data["target"]
    others = [name for name in table().column_names if name not in ("x", "y", "z", *targets)]
    config = {
        "name": "task",
        "data": {"source": str(tmp_path / "rows.csv"), "exclude": others, **data},
        "model": {"net": "mlp", "hidden": [32]},
        "train": {"epochs": 30, "learning_rate": 0.01},
        "machine": {"cache": str(tmp_path / "cache"), "threads": 1},
    }
    run = train(config, runs=tmp_path / "runs", quiet=True)
    assert run.result.metrics[f"test_{quality}"] > least
    published = package(run, directory=tmp_path / "packages")
    found = evaluate(published, str(tmp_path / "rows.csv"))
    assert (found["rows"], found["rejected"]) == (NUM_ROWS, 0)
    assert found[quality] > least

    output = tmp_path / "answers.parquet"
    predict(published, str(tmp_path / "rows.csv"), output)
    offline = pq.read_table(output).to_pylist()
    assert len(offline) == NUM_ROWS
    rows = table().select(["x", "y", "z"]).slice(0, 40).to_pylist()
    with load(published) as predictor:
        answers = predictor.predict_rows(rows)
    for answer, line in zip(json.loads(json.dumps(answers)), offline, strict=False):
        assert set(line) - {"row", "rejected"} == set(flattened(answer))
        for name, value in flattened(answer).items():
            assert value == (pytest.approx(line[name], rel=1e-5, abs=1e-6) if isinstance(value, float) else line[name])


def flattened(answer: dict[str, Any]) -> dict[str, Any]:
    """A reply's record as the columns of a file of answers."""
    chances = {f"probability.{label}": chance for label, chance in answer.get("probabilities", {}).items()}
    if "labels" in answer:
        return chances | {f"label.{label}": label in answer["labels"] for label in answer["probabilities"]}
    return chances | {name: value for name, value in answer.items() if name != "probabilities"}
