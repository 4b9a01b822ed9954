"""What a user may name where a package is wanted: a version, a package's folder, or a run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from corelane.app import evaluate, package, predict, train
from corelane.app.package_paths import OWN, resolve_package
from corelane.app.runs import CONFIG_NAME, RESULT_NAME
from corelane.core.errors import ConfigError
from tests.serve.live import serving


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run without a package, and its rows beside it."""
    folder = tmp_path_factory.mktemp("run")
    values = np.random.default_rng(0).normal(size=(200, 2))
    data = {"a": values[:, 0], "b": values[:, 1], "y": np.where(values[:, 0] > 0, "p", "n")}
    pa.csv.write_csv(pa.table(data), folder / "rows.csv")
    config = {
        "name": "small",
        "data": {"target": "y"},
        "model": {"net": "mlp", "hidden": [8]},
        "train": {"epochs": 2},
        "package": {"directory": str(folder / "packages")},
        "machine": {"cache": str(folder / "cache"), "plan": "eager"},
    }
    return train(config, data=data, runs=folder / "runs", quiet=True).directory


def test_a_run_is_scored_evaluated_and_served_directly(run: Path, tmp_path: Path) -> None:
    """It is packaged once, into its own folder."""
    rows = str(run.parents[1] / "rows.csv")
    answer = predict(run, rows, tmp_path / "out.csv")
    assert (answer["rows"], answer["rejected"]) == (200, 0)
    own = run / OWN / "small" / "1"
    assert resolve_package(run) == own
    assert evaluate(run, rows)["rows"] == 200
    with serving(run) as server:
        reply = server.ask("POST", "/v1/models/small:predict", {"rows": [{"a": 1.0, "b": 0.0}]})
        assert reply.json["predictions"][0]["label"] in {"p", "n"}
    assert sorted(path.name for path in own.parent.iterdir()) == ["1"]


def test_two_who_ask_at_once_get_one_package(run: Path, tmp_path: Path) -> None:
    """The second waits for the first and takes what it made."""
    copied = tmp_path / "runs" / run.name
    shutil.copytree(run, copied, ignore=shutil.ignore_patterns(OWN))
    ask = "import sys; from corelane.app.package_paths import resolve_package; print(resolve_package(sys.argv[1]))"
    children = [
        subprocess.Popen([sys.executable, "-c", ask, str(copied)], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    told = [child.communicate(timeout=300)[0].strip() for child in children]
    assert told == [str(copied / OWN / "small" / "1")] * 2
    assert not (copied / f"{OWN}.lock").exists()


def test_a_package_that_was_published_is_taken(run: Path) -> None:
    """Where the configuration says packages go; the run's folder is for runs that have none there."""
    made = package(run)
    assert resolve_package(run) == made
    assert resolve_package(made) == made
    assert resolve_package(made.parent) == made


def test_what_is_none_of_them_is_told(run: Path, tmp_path: Path) -> None:
    """And a run that has not finished, or whose checkpoint is gone, with what to do."""
    with pytest.raises(ConfigError, match="must be a package, a folder of its versions or a run"):
        resolve_package(tmp_path)
    other = tmp_path / "copy"
    other.mkdir()
    for name in ("config.yaml", "run.json"):
        (other / name).write_bytes((run / name).read_bytes())
    with pytest.raises(ConfigError, match="must be a finished run"):
        resolve_package(other)
    (other / RESULT_NAME).write_bytes((run / RESULT_NAME).read_bytes())
    config = (other / CONFIG_NAME).read_text().replace(str(run.parents[1] / "packages"), str(tmp_path / "packages"))
    (other / CONFIG_NAME).write_text(config)
    with pytest.raises(ConfigError, match="must be a run directory with data"):
        resolve_package(other)
