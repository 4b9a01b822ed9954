"""Fine-tuning: a run that starts from a package, through the calls and the command that users make."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corelane.app import package, train
from corelane.app.training import Run
from corelane.core.errors import ConfigError, MemoryBudgetError
from corelane.model.package import ModelPackage
from corelane.train.record import StepRecord


def rows(seed: int, labels: tuple[str, ...] = ("no", "yes"), shift: float = 0.0) -> dict[str, Any]:
    """Three numbers, of which the first, coarsely, decides the label; `shift` moves all of them."""
    x = np.random.default_rng(seed).normal(size=(300, 3)).astype(np.float32)
    place = np.digitize(x[:, 0], np.linspace(-0.5, 0.5, len(labels) - 1))
    return {"x": x + shift, "y": np.array(labels)[place]}


def settings(tmp_path: Path, **sections: Any) -> dict[str, Any]:
    return {
        "name": "a",
        "data": {"target": "y"},
        "model": {"net": "mlp", "hidden": [16]},
        "machine": {"cache": str(tmp_path / "cache"), "memory": "16MiB", "plan": "eager"},
        **sections,
    }


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package trained to tell two labels apart."""
    tmp_path = tmp_path_factory.mktemp("start")
    config = settings(tmp_path, train={"epochs": 8, "learning_rate": 0.02})
    return package(train(config, data=rows(0), runs=tmp_path / "runs", quiet=True), directory=tmp_path / "packages")


def tuned(tmp_path: Path, start: Path, data: dict[str, Any], **options: Any) -> tuple[Run, list[StepRecord]]:
    seen: list[StepRecord] = []
    fine_tune = {"package": str(start), "reset": options.pop("reset", [])}
    config = {**settings(tmp_path), "name": "b", "train": {"epochs": 2, "fine_tune": fine_tune, **options}}
    del config["model"]
    run = train(config, data=data, runs=tmp_path / "runs", quiet=True, observers=[seen.append])
    return run, seen


def test_it_goes_on_from_the_weights_and_the_pipeline(tmp_path: Path, start: Path) -> None:
    """The first loss is that of a trained network, the pipeline is the package's, although the new data are shifted;
    only how many rows have each label is counted anew.
    """
    run, seen = tuned(tmp_path, start, rows(1, shift=0.1))
    assert seen[0].loss < 0.4 < np.log(2)
    pipeline = json.loads((run.directory / "data/pipeline.json").read_text())
    counts, num_rows = pipeline["target"]["counts"], pipeline["target"]["num_rows"]
    of_start = ModelPackage.load(start).pipeline.to_json()
    assert pipeline == {**of_start, "target": {**of_start["target"], "counts": counts, "num_rows": num_rows}}
    assert sum(counts) == num_rows
    assert ModelPackage.load(package(run, directory=tmp_path / "packages")).name == "b"


def test_frozen_weights_are_those_of_the_package(tmp_path: Path, start: Path) -> None:
    """With its first layer frozen, a tuned network has the package's first layer."""
    run, _ = tuned(tmp_path, start, rows(1), freeze=["layers.0.*"])
    saved = ModelPackage.load(start).weights()
    now = run.module.state_dict()
    assert np.array_equal(now["layers.0.weight"].numpy(), saved["layers.0.weight"])
    assert not np.array_equal(now["layers.2.weight"].numpy(), saved["layers.2.weight"])


def test_other_labels_need_a_new_output_layer(tmp_path: Path, start: Path) -> None:
    """Data with labels of their own are refused with the remedy, and trained when the output layer is reset."""
    data = rows(1, labels=("low", "middle", "high"))
    with pytest.raises(ConfigError, match=r"reset must name the output layer.*layers\.2\.weight, layers\.2\.bias"):
        tuned(tmp_path, start, data)
    run, _ = tuned(tmp_path, start, data, reset=["layers.2.*"])
    assert run.module.state_dict()["layers.2.weight"].shape == (3, 16)


def test_some_of_the_labels_keep_the_target(tmp_path: Path, start: Path) -> None:
    """Where the new labels are among the package's, its classes stay, in its order."""
    data = rows(1)
    run, _ = tuned(tmp_path, start, {name: values[:250] for name, values in data.items()})
    assert json.loads((run.directory / "data/pipeline.json").read_text())["target"]["labels"] == ["no", "yes"]


def test_another_network_is_refused(tmp_path: Path, start: Path) -> None:
    """A `model` section that names another network than the package's is no fine-tuning of it."""
    config = settings(tmp_path, model={"net": "mlp", "hidden": [8]}, train={"fine_tune": {"package": str(start)}})
    with pytest.raises(ConfigError, match="model must be left out to fine-tune"):
        train(config, data=rows(1), runs=tmp_path / "runs", quiet=True)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"target": "x"}}, "data.target must be the package's to fine-tune it, y, got x"),
        ({"data": {"target": "y", "separator": ";"}}, "data.separator must be the package's"),
        ({"data": {"target": "y", "task": "regression"}}, "data.task must be left out to fine-tune"),
        ({"data": {"target": "y", "task": "multi_class"}}, "data.task must be left out to fine-tune"),
        ({"data": {"target": "y", "positive": "no"}}, "data.positive must be left out to fine-tune"),
        ({"data": {"target": "y", "exclude": ["x"]}}, "data.exclude must not name what the package reads"),
        ({"pipeline": {"numeric": "robust"}}, "pipeline must be left out to fine-tune a package.*numeric"),
    ],
)
def test_what_the_package_has_decided_is_not_ignored(
    tmp_path: Path, start: Path, sections: dict[str, Any], message: str
) -> None:
    """Another target, task, positive label or pipeline than the package's is refused, not passed over in silence."""
    config = {**settings(tmp_path), "train": {"epochs": 1, "fine_tune": {"package": str(start)}}, **sections}
    with pytest.raises(ConfigError, match=message):
        train(config, data=rows(1), runs=tmp_path / "runs", quiet=True)


def test_what_agrees_with_the_package_may_be_said(tmp_path: Path, start: Path) -> None:
    """Its own task and positive label, and the network that fits the data."""
    data = {"target": "y", "task": "binary", "positive": "yes"}
    fine_tune = {"package": str(start)}
    config = settings(tmp_path, data=data, model={"net": "auto"}, train={"epochs": 1, "fine_tune": fine_tune})
    run = train(config, data=rows(1), runs=tmp_path / "runs", quiet=True)
    assert run.module.state_dict()["layers.0.weight"].shape[0] == 16


def test_a_reset_that_fits_nothing_is_refused(tmp_path: Path, start: Path) -> None:
    """As a pattern of `freeze` is: a slip of the pen would leave the weights as they were."""
    with pytest.raises(ConfigError, match=r"train.fine_tune.reset must name parameters.*'layer\.2\.\*'"):
        tuned(tmp_path, start, rows(1), reset=["layer.2.*"])


def test_resetting_something_else_does_not_pass_for_the_output_layer(tmp_path: Path, start: Path) -> None:
    """Two other labels have the old output layer's shape, and still none of its meaning."""
    with pytest.raises(ConfigError, match=r"reset must name the output layer.*add its parameters, layers\.2\.weight"):
        tuned(tmp_path, start, rows(1, labels=("high", "low")), reset=["layers.0.*"])


def test_the_remedy_names_the_output_layer_of_tabm(tmp_path: Path) -> None:
    """Whose parameters are not the last ones in the network."""
    config = settings(tmp_path, model={"net": "tabm", "hidden": [8], "members": 2}, train={"epochs": 1})
    made = package(train(config, data=rows(0), runs=tmp_path / "runs", quiet=True), directory=tmp_path / "packages")
    data = rows(1, labels=("low", "middle", "high"))
    with pytest.raises(ConfigError, match=r"add its parameters, weight, bias$"):
        tuned(tmp_path, made, data)
    tuned(tmp_path, made, data, reset=["weight", "bias"])


def test_a_label_that_does_not_occur_stays(tmp_path: Path) -> None:
    """A package of several labels is tuned on rows of which none has one of them; its network answers for all."""
    x = np.random.default_rng(0).normal(size=(200, 2))
    data = {"x": x[:, 0], "z": x[:, 1], "p": (x[:, 0] > 0).astype(int), "q": (x[:, 1] > 0).astype(int)}
    config = settings(tmp_path, data={"target": ["p", "q"]}, train={"epochs": 1})
    made = package(train(config, data=data, runs=tmp_path / "runs", quiet=True), directory=tmp_path / "packages")
    few = {**config, "name": "b", "train": {"epochs": 1, "fine_tune": {"package": str(made)}}}
    run = train(few, data={**data, "q": np.zeros(200, dtype=int)}, runs=tmp_path / "runs", quiet=True)
    target = json.loads((run.directory / "data/pipeline.json").read_text())["target"]
    assert (target["labels"], target["counts"][1]) == (["p", "q"], 0)


def test_a_run_goes_on_without_its_start(tmp_path: Path, start: Path) -> None:
    """What it took from the package is in the run: it is stopped, the package goes, it ends as if nothing had been."""
    copy = shutil.copytree(start, tmp_path / "copy")
    config = {**settings(tmp_path), "name": "b", "train": {"epochs": 3, "fine_tune": {"package": str(copy)}}}
    del config["model"]

    def stop(record: StepRecord) -> None:
        if record.step == 6:
            raise ConnectionError

    config["train"]["save_interval"] = 2
    whole = train(config, data=rows(1), runs=tmp_path / "whole", quiet=True)
    with pytest.raises(ConnectionError):
        train(config, data=rows(1), runs=tmp_path / "runs", quiet=True, observers=[stop])
    shutil.rmtree(copy)
    again = train(config, data=rows(1), runs=tmp_path / "runs", quiet=True, resume=True)
    for name, tensor in whole.module.state_dict().items():
        assert np.array_equal(again.module.state_dict()[name].numpy(), tensor.numpy())


def test_a_run_says_what_it_trained(tmp_path: Path, start: Path) -> None:
    """The run's own configuration names the network, so it can be packaged when the package it began with is gone."""
    copy = shutil.copytree(start, tmp_path / "copy")
    run, _ = tuned(tmp_path, copy, rows(1))
    shutil.rmtree(copy)
    assert ModelPackage.load(package(run.directory, directory=tmp_path / "packages")).architecture["options"]


def test_what_is_frozen_needs_no_memory_for_training(tmp_path: Path) -> None:
    """A layer whose gradient and moments would not fit is trained around, where it is frozen."""
    config = settings(
        tmp_path, model={"net": "mlp", "hidden": [700, 700]}, train={"epochs": 1, "freeze": ["layers.2.*"]}
    )
    train(config, data=rows(0), runs=tmp_path / "runs", quiet=True)
    with pytest.raises(MemoryBudgetError, match="'gradients' must have room"):
        train({**config, "train": {"epochs": 1}}, data=rows(0), runs=tmp_path / "runs", quiet=True)
