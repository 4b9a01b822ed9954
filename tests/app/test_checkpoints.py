"""`corelane checkpoints` and `corelane verify-resume` on a run that was really trained."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from corelane.app import train
from corelane.app.checkpoints import list_checkpoints, prune, verify
from corelane.app.replay import CERTIFICATE, verify_resume
from corelane.app.replay_copy import taken_stretch
from corelane.app.runs import held
from corelane.cli import cli
from corelane.core.errors import ConfigError
from corelane.store.durable import discard, write_atomic
from corelane.train.micro_batch import record_rows
from corelane.train.suspects import Suspect, write_suspects


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


@pytest.mark.timeout(300)
def test_a_replay_is_the_run_as_it_was(run: Path, tmp_path: Path) -> None:
    """A crash loop and a smaller micro-batch that came after the replayed steps are none of them, and nothing reaches
    the copies of the run's checkpoints in shared storage.
    """
    config = yaml.safe_load((run / "config.yaml").read_bytes())
    config["train"]["mirror_checkpoints"] = True
    config["machine"]["cache_shared"] = f"file://{tmp_path}/shared"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    write_suspects(run, [Suspect(0, 1, 2, "it crashed", since=_steps(run)[-1])])
    record_rows(run, 5, "the memory ended")
    assert verify_resume(run)["differences"] == []
    assert not list(tmp_path.glob("shared/checkpoints/*"))


@pytest.mark.timeout(300)
def test_a_replay_that_is_asked_to_stop_leaves_nothing(run: Path, tmp_path: Path) -> None:
    """SIGTERM while it trains: exit 75, no process and no scratch directory is left, and the run is as it was."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    before = {path.name for path in run.iterdir()}
    argv = [sys.executable, "-m", "corelane", "verify-resume", str(run), "--steps", "100000"]
    with subprocess.Popen(argv, env={**os.environ, "TMPDIR": str(scratch)}, stderr=subprocess.PIPE) as command:
        _until(lambda: any(scratch.glob("*/*/*/lock")))
        command.terminate()
        _, told = command.communicate(timeout=60)
    assert (command.returncode, b"request to stop" in told) == (75, True)
    assert list(scratch.iterdir()) == []
    assert not _processes_of(scratch)
    assert {path.name for path in run.iterdir()} == before


def test_a_run_in_progress_is_read_while_it_prunes(run: Path, tmp_path: Path) -> None:
    """Whatever is removed between two looks is not called broken, and ends no command."""
    (run / "checkpoints" / str(_steps(run)[-1])).rename(tmp_path / "newest")
    with _pruned_meanwhile(run / "checkpoints"):
        for number in range(60):
            assert verify(run)["broken"] == []
            assert all("reason" not in one for one in list_checkpoints(run)["checkpoints"])
            first, second = taken_stretch(run, None, tmp_path / str(number))
            assert {path.name for path in (tmp_path / str(number)).iterdir()} == {str(first), str(second)}


@contextmanager
def _pruned_meanwhile(folder: Path) -> Iterator[None]:
    """A new checkpoint every 10 ms, of which three stay."""
    is_over = threading.Event()

    def save() -> None:
        steps = sorted(int(path.name) for path in folder.iterdir())
        while not is_over.wait(0.01):
            shutil.copytree(folder / str(steps[-1]), folder / ".next.tmp")
            (folder / ".next.tmp").rename(folder / str(steps[-1] + 1))
            steps.append(steps[-1] + 1)
            while len(steps) > 3:
                discard(folder / str(steps.pop(0)))

    thread = threading.Thread(target=save)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _processes_of(scratch: Path) -> list[str]:
    """The processes with `scratch` in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [path.parent.name] * (str(scratch).encode() in path.read_bytes())
        except OSError:
            continue
    return found


def _until(condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
