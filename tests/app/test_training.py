"""Training through `app`: what a resume takes over, what a crash leaves, and that settings reach whom they are for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from torch import Tensor, nn

from corelane.app import train
from corelane.app.runs import held, open_run_data
from corelane.core.errors import ConfigError
from corelane.data.prepare import prepare
from corelane.model.config import ModelConfig
from corelane.model.nets.tabm import TabM


def rows(seed: int) -> dict[str, Any]:
    x = np.random.default_rng(seed).normal(size=(200, 3)).astype(np.float32)
    return {"x": x, "y": (x[:, 0] > 0).astype(int)}


def settings(tmp_path: Path, **train_section: Any) -> dict[str, Any]:
    machine = {"cache": str(tmp_path / "cache"), "memory": "16MiB"}
    return {"name": "a", "data": {"target": "y"}, "machine": machine, "train": {"epochs": 2, **train_section}}


class Broken(nn.Linear):
    """A user's net with a mistake in it."""

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("a mistake of the user's")


def test_other_data_do_not_go_on_under_an_earlier_pipeline(tmp_path: Path) -> None:
    """A run that died before its first checkpoint kept its pipeline; weights of other data must not be packaged so."""
    with pytest.raises(ValueError, match="mistake"):
        train(settings(tmp_path), data=rows(0), model=Broken(3, 2), runs=tmp_path, quiet=True)
    with pytest.raises(ConfigError, match=r"data of .*a-001"):
        train(settings(tmp_path), data=rows(1), runs=tmp_path, resume=True, quiet=True)
    run = train(settings(tmp_path), data=rows(0), runs=tmp_path, resume=True, quiet=True)
    assert run.directory.name == "a-001"


def test_a_crash_is_in_the_log(tmp_path: Path) -> None:
    """What raised an unexpected error can be read afterwards, where the last message sends the user."""
    with pytest.raises(ValueError, match="mistake"):
        train(settings(tmp_path), data=rows(0), model=Broken(3, 2), runs=tmp_path, quiet=True)
    entries = map(json.loads, (tmp_path / "a-001/logs/training.jsonl").read_text().splitlines())
    crash = next(entry for entry in entries if entry["event"] == "training_failed")
    assert "ValueError: a mistake of the user's" in crash["exception"]


def test_a_run_keeps_the_network_that_was_chosen_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none is named a table gets tabm, and a later version, which chooses another, goes on with that."""
    data = {"size": np.arange(100.0), "y": np.arange(100) % 2}
    config = settings(tmp_path, epochs=1)

    def stop(*_: object) -> None:
        raise ValueError("stopped before the first step")

    with monkeypatch.context() as first:
        first.setattr("corelane.app.training.fit_inputs", stop)
        with pytest.raises(ValueError, match="stopped"):
            train(config, data=data, runs=tmp_path, quiet=True)
    monkeypatch.setattr("corelane.model.choose.choose_net", lambda _: ("mlp", "a table"))
    run = train(config, data=data, runs=tmp_path, resume=True, quiet=True)
    assert isinstance(run.module, TabM)
    assert open_run_data(run.directory).model == ModelConfig(net="tabm")


def test_what_a_resume_may_change_is_changed(tmp_path: Path) -> None:
    """Another save interval is taken over by the run, and stands in its configuration."""
    train(settings(tmp_path), data=rows(0), runs=tmp_path, quiet=True)
    run = train(settings(tmp_path, save_interval=7), data=rows(0), runs=tmp_path, resume=True, quiet=True)
    assert run.directory.name == "a-001"
    assert yaml.safe_load((run.directory / "config.yaml").read_text())["train"]["save_interval"] == 7


def test_the_configured_memory_limits_preparation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`machine.memory` bounds what is kept in memory when the cache's disk is full."""
    seen = []

    def noted(*arguments: Any, **options: Any) -> Any:
        seen.append(options["memory_budget_bytes"])
        return prepare(*arguments, **options)

    monkeypatch.setattr("corelane.app.training.prepare", noted)
    train(settings(tmp_path), data=rows(0), runs=tmp_path, quiet=True)
    assert seen == [int(0.3 * 2**24)]


def test_a_run_that_is_being_trained_is_left_alone(tmp_path: Path) -> None:
    """A second `--resume` of a run in progress is refused, and its configuration stays."""
    train(settings(tmp_path), data=rows(0), runs=tmp_path, quiet=True)
    with held(tmp_path / "a-001"), pytest.raises(ConfigError, match="twice at a time"):
        train(settings(tmp_path, save_interval=7), data=rows(0), runs=tmp_path, resume=True, quiet=True)
    assert yaml.safe_load((tmp_path / "a-001/config.yaml").read_text())["train"]["save_interval"] == 1000
