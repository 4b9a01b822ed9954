"""`corelane checkpoints` and `corelane verify-resume` on a run that was really trained."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from corelane.app import train
from corelane.app.checkpoints import list_checkpoints, prune, verify
from corelane.app.replay import CERTIFICATE, verify_resume
from corelane.app.runs import held
from corelane.cli import cli
from corelane.core.errors import ConfigError
from corelane.store.durable import write_atomic


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 24 steps with checkpoints at 5, 10, 15, 20 and 24."""
    folder = tmp_path_factory.mktemp("project")
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 3))
    rows = [",".join([*(f"{value:.6f}" for value in row), "yes" if row.sum() > 0 else "no"]) for row in x]
    (folder / "rows.csv").write_text("\n".join(["a,b,c,y", *rows]))
    config = {
        "name": "small",
        "data": {"source": {"type": "filesystem", "path": str(folder / "rows.csv")}, "target": "y"},
        "model": {"net": "mlp", "hidden": [8], "dropout": 0.2},
        "train": {"epochs": 6, "batch_size": 32, "save_interval": 5, "keep_checkpoints": 9, "ema_decay": 0.9},
        "machine": {"cache": str(folder / "cache"), "threads": 1},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return train(folder / "config.yaml", runs=folder / "runs", quiet=True).directory


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be changed."""
    return Path(shutil.copytree(trained, tmp_path / "small-001"))


def _invoke(*arguments: str | Path) -> tuple[int, Any]:
    result = CliRunner().invoke(cli, [*map(str, arguments), "--json"])
    return result.exit_code, json.loads(result.stdout)


def _steps(run: Path) -> list[int]:
    return [one["step"] for one in list_checkpoints(run)["checkpoints"]]


def test_they_are_listed_with_what_matters(run: Path) -> None:
    """Step, epoch, size, validation loss; nobody holds a finished run."""
    code, answer = _invoke("checkpoints", "list", run)
    steps = [one["step"] for one in answer["checkpoints"]]
    assert (code, steps[:3], answer["held_by"]) == (0, [5, 10, 15], None)
    assert answer["checkpoints"][-1]["validation_loss"] > 0
    assert all(one["bytes"] > 1000 for one in answer["checkpoints"])


def test_what_is_broken_is_named(run: Path) -> None:
    """One flipped byte: exit 2, its step and file; the others are whole."""
    assert _invoke("checkpoints", "verify", run)[0] == 0
    path = run / "checkpoints/10/optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xa5")
    code, answer = _invoke("checkpoints", "verify", run)
    assert code == 2
    assert [one["step"] for one in answer["broken"]] == [10]
    assert "optimizer.safetensors" in answer["broken"][0]["reason"]
    assert 10 not in answer["whole"]


def test_pruning_leaves_two_that_are_whole(run: Path) -> None:
    """As asked, but for a broken newest one, beside which two whole ones stay."""
    steps = _steps(run)
    path = run / "checkpoints" / str(steps[-1]) / "state.json"
    path.write_bytes(b"{}")
    answer = prune(run, last=1)
    assert answer["removed"] == steps[:-3]
    assert _steps(run) == steps[-3:]
    assert answer["freed_bytes"] > 0


def test_a_run_that_is_trained_is_not_pruned(run: Path) -> None:
    """While a process holds the run nothing goes."""
    before = _steps(run)
    with held(run), pytest.raises(ConfigError, match="must not be trained twice"):
        prune(run, last=1)
    assert _steps(run) == before


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    """Exit 2 with what was expected."""
    for command in ("list", "verify", "prune"):
        code, answer = _invoke("checkpoints", command, tmp_path)
        assert (code, answer["code"]) == (2, "config_invalid")


@pytest.mark.timeout(300)
def test_a_replay_proves_that_the_run_resumes(run: Path) -> None:
    """A process of its own trains from one checkpoint to the next and ends with the same bytes: the certificate."""
    code, answer = _invoke("verify-resume", run)
    assert (code, answer["is_equal"], answer["differences"]) == (0, True, [])
    steps = _steps(run)
    assert [answer["from_step"], answer["to_step"]] == steps[-2:]
    assert {"model.safetensors", "optimizer.safetensors", "parts.safetensors"} <= answer["sha256"].keys()
    assert json.loads((run / CERTIFICATE).read_bytes()) == answer


@pytest.mark.timeout(300)
def test_a_difference_is_found(run: Path) -> None:
    """Where the run's own bytes are others, under fitting hashes, the replay says which."""
    steps = _steps(run)
    state = run / "checkpoints" / str(steps[-1]) / "history.jsonl"
    for step in steps[:-2]:
        shutil.rmtree(run / "checkpoints" / str(step))
    content = state.read_bytes().replace(b'"train_loss": 0', b'"train_loss": 1')
    manifest = state.with_name("manifest.json")
    write_atomic(state, content)
    manifest.write_bytes(_with_digest(manifest.read_bytes(), content))
    assert verify(run)["broken"] == []
    answer = verify_resume(run)
    assert answer["differences"] == ["history.jsonl"]
    assert not answer["is_equal"]


def _with_digest(manifest: bytes, content: bytes) -> bytes:
    values = json.loads(manifest)
    values["files"]["history.jsonl"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
