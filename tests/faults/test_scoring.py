"""Offline scoring that is killed: with `--resume` the second command ends with the bytes of a calm one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

NUM_ROWS = 3 << 19  # three parts


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package trained for one epoch on four numbers; the rows to score lie beside it."""
    generator = np.random.default_rng(7)
    columns = {name: generator.standard_normal(NUM_ROWS).astype(np.float32) for name in "abcd"}
    target = np.where(columns["a"] > 0, "yes", "no")
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    pq.write_table(pa.table({**columns, "y": target}).slice(0, 600), tmp_path / "train.parquet")
    corelane(tmp_path, "init", "p", "--data", "train.parquet", "--target", "y")
    settings = ["--set", "train.epochs=1", "--set", "machine.plan=eager", "--set", "model={net: mlp, hidden: [8]}"]
    return Path(corelane(tmp_path, "train", "p/config.yaml", *settings)["package"])


def corelane(folder: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    argv = [sys.executable, "-m", "corelane", *arguments, "--json"]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_a_killed_scoring_goes_on(tmp_path: Path, package: Path) -> None:
    """Flushed answers are not computed again, every row is there once, and the folder beside the output is gone."""
    arguments = ["predict", str(package), "--input", "rows.parquet", "--output"]
    corelane(tmp_path, *arguments, "calm.parquet")
    argv = [sys.executable, "-m", "corelane", *arguments, "answers.parquet", "--resume"]
    process = subprocess.Popen(argv, cwd=tmp_path)
    parts = tmp_path / "answers.parquet.parts"
    while not list(parts.glob("*.arrow")):
        assert process.poll() is None, "it must not end before a part is there"
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "answers.parquet").exists()
    done = corelane(tmp_path, *arguments, "answers.parquet", "--resume")
    assert done["rows"] == NUM_ROWS
    assert 0 < done["kept"] < NUM_ROWS
    assert pq.read_table(tmp_path / "answers.parquet").equals(pq.read_table(tmp_path / "calm.parquet"))
    assert not parts.exists()


def test_other_data_are_not_mixed_in(tmp_path: Path, package: Path) -> None:
    """Answers kept of one data set are not continued with another: the command says so and both stay as they are."""
    arguments = ["predict", str(package), "--output", "answers.parquet", "--resume", "--input"]
    parts = tmp_path / "answers.parquet.parts"
    parts.mkdir()
    (parts / "made_of.json").write_text('{"data":"others"}')
    refused = corelane(tmp_path, *arguments, "rows.parquet", code=2)
    assert "begin anew" in refused["error"]
    assert not (tmp_path / "answers.parquet").exists()


def test_a_table_cannot_be_resumed(tmp_path: Path, package: Path) -> None:
    """Kept answers need a place on disk beside the output."""
    arguments = ["predict", str(package), "--input", "rows.parquet", "--resume", "--output", "sqlite:///a.db#t"]
    assert "must be with a file" in corelane(tmp_path, *arguments, code=2)["error"]
