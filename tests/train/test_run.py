"""A whole run: what it leaves in its directory and gives back."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from corelane.core.errors import RunLockedError, SaveError
from corelane.observe.config import ObserveConfig
from corelane.observe.log import SystemLogger
from corelane.train.checkpoint import Snapshot
from corelane.train.heartbeat import NoHeart, Phase
from corelane.train.state import TrainingStateManager
from corelane.train.timing import PHASES
from tests.train.examples import classification, dropout_net, picture_net, pictures, regression, run, weights


def test_a_run_leaves_everything_that_is_promised(tmp_path: Path) -> None:
    """Plan, history, checkpoints, report and result; the result's figures are the report's and the history's."""
    logs = SystemLogger(ObserveConfig(log_level="info"), directory=tmp_path / "logs")
    with logs:
        result = run(tmp_path, classification(), dropout_net(), logger=logs)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("plan.json", "metrics.jsonl", "checkpoints", "lock", "logs", "report.html", "result.json")
    }
    written = json.loads((tmp_path / "result.json").read_text())
    assert written == json.loads(json.dumps({"task": "multi_class", **result.to_json()}))
    assert set(written["metrics"]) == {
        f"{part}_{name}" for part in ("validation", "test") for name in ("loss", "accuracy", "macro_f1")
    }
    assert f"{round(written['metrics']['test_accuracy'], 4)}" in (tmp_path / "report.html").read_text()
    events = [json.loads(line)["event"] for line in (tmp_path / "logs/training.jsonl").read_text().splitlines()]
    assert {"training_started", "training_step", "epoch_finished", "checkpoint_saved", "training_finished"} == set(
        events
    )
    exposition = logs.metrics_collector.render().decode()
    assert f"corelane_training_durable_step {float(result.num_steps)}" in exposition
    assert 'corelane_training_quality{metric="validation_accuracy"}' in exposition


def test_the_time_is_accounted_for(tmp_path: Path) -> None:
    """The phases are those that the table promises, and together they are the training's time."""
    result = run(tmp_path, classification(), dropout_net())
    assert tuple(result.seconds) == PHASES
    assert all(taken > 0 for taken in result.seconds.values())
    assert result.examples_per_s == pytest.approx(result.num_steps * 32 / sum(result.seconds.values()))


def test_the_module_is_ready_for_export(tmp_path: Path) -> None:
    """After a run in channels_last the module is contiguous, in eval mode, and holds the best weights."""
    net = picture_net()
    run(tmp_path, pictures(), net)
    assert not net.training
    assert all(parameter.is_contiguous() for parameter in net.parameters())
    other = picture_net(seed=5)
    TrainingStateManager(tmp_path / "checkpoints").load_best().load_into(other)
    assert weights(other) == weights(net)


def test_regression_is_reported_in_the_targets_unit(tmp_path: Path) -> None:
    """RMSE and MAE agree with the predictions scaled back by hand, on the part that was looked at once."""
    data, net = regression(), dropout_net(1)
    result = run(tmp_path, data, net)
    target = data.pipeline.target
    with torch.inference_mode():
        outputs = net(torch.from_numpy(data.test.inputs["features"].copy()))[:, 0].double().numpy()
    errors = (outputs - data.test.target) * target.std
    assert result.metrics["test_rmse"] == pytest.approx(math.sqrt((errors**2).mean()), rel=1e-5)
    assert result.metrics["test_mae"] == pytest.approx(abs(errors).mean(), rel=1e-5)
    assert target.mean == pytest.approx(5000, abs=10)


def test_without_a_test_part_nothing_is_said_of_it(tmp_path: Path) -> None:
    """No test rows: no test figures, and the report shows the validation part and says so."""
    result = run(tmp_path, classification(parts=(0.7, 1.0)), dropout_net())
    assert result.test is None
    assert not [name for name in result.metrics if name.startswith("test")]
    assert "validation part, which also chose the weights" in (tmp_path / "report.html").read_text()


def test_a_test_loss_that_is_not_finite_ends_the_run_well(tmp_path: Path) -> None:
    """A test row that overflows the network costs its figure, which the log names, and not the trained run."""
    data = classification()
    for array in data.test.inputs.values():
        array.setflags(write=True)
        array[0] = np.inf  # as a far larger net would make of 1e38
    with SystemLogger(ObserveConfig(log_level="info"), directory=tmp_path / "logs") as logs:
        result = run(tmp_path, data, dropout_net(), logger=logs)
    assert result.not_finite == ["test_loss"]
    assert "test_accuracy" in json.loads((tmp_path / "result.json").read_text())["metrics"]
    assert '"left_out":["test_loss"]' in (tmp_path / "logs/training.jsonl").read_text()


class TakenOver(NoHeart):
    """Another trainer takes the run over when its last evaluation begins."""

    def __init__(self, run: Path) -> None:
        self._run = run

    def enter(self, phase: Phase) -> None:
        if phase == "finish":
            (self._run / "lock/99.json").write_text("{}")


def test_a_trainer_that_was_succeeded_publishes_no_result(tmp_path: Path) -> None:
    """A7: taken over after its last checkpoint, it writes neither report nor result: they are the successor's."""
    with pytest.raises(RunLockedError):
        run(tmp_path, classification(), dropout_net(), epochs=1, heart=TakenOver(tmp_path))
    assert not {"report.html", "result.json"} & {path.name for path in tmp_path.iterdir()}


def test_a_last_save_that_hangs_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A9: the wait for the last save is bounded, and what was saved before is named; no result is written."""
    may_write = threading.Event()
    write = Snapshot.write

    def late(self: Snapshot, target: Path, guard: Callable[[], None]) -> None:
        may_write.wait()
        write(self, target, guard)

    monkeypatch.setattr(Snapshot, "write", late)
    timer = threading.Timer(1.0, may_write.set)
    timer.start()
    with pytest.raises(SaveError, match="must be written within"):
        run(tmp_path, classification(), dropout_net(), epochs=1, save_interval=1000, hang_timeout_s=0.2)
    timer.join()
    assert not (tmp_path / "result.json").exists()
