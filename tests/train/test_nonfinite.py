"""Steps that are not finite: what they leave untouched, and the three policies, each resumed exactly."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from corelane.core.errors import InterruptedRunError, NonFiniteLossError
from corelane.model.nets.numbers import NumberEmbedding
from corelane.observe.log import SystemLogger
from corelane.train.config import TrainConfig
from corelane.train.nonfinite import Guard, NonFiniteSteps
from corelane.train.record import StepRecord
from tests.train.examples import NoFolder, classification, run, weights


class Sensitive(nn.Module):
    """A net with batch statistics whose loss is NaN for every batch that holds one of the rows `bad`."""

    def __init__(self, bad: float | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
        self.bad = bad

    def forward(self, values: Tensor) -> Tensor:
        is_bad = self.training and self.bad is not None and bool((values[:, 0] == self.bad).any())
        poisoned = values * float("nan") if is_bad else values
        return self.inner(poisoned)


def first_value(row: int) -> float:
    """What identifies a row of the example's training part."""
    return float(next(iter(classification().train.inputs.values()))[row].flat[0])


def entries(directory: Path, kind: str) -> list[dict[str, Any]]:
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["kind"] == kind]


def test_a_bad_step_changes_nothing() -> None:
    """A batch that is not finite leaves the statistics of batch normalisation as they were."""
    module = nn.BatchNorm1d(3)
    guard = Guard(module)
    module(torch.randn(8, 3))
    before = weights(module)
    guard.begin()
    module(torch.full((8, 3), float("nan")))
    assert not guard.is_good(torch.tensor(1.0), torch.tensor(float("inf")))
    after = weights(module)
    assert {name for name in before if before[name] != after[name]} == {"num_batches_tracked"}


def test_constants_are_not_copied() -> None:
    """What a part names as constant stays out of the copies before each step: a tabm's bins."""
    assert Guard(NumberEmbedding(4, 2, 8))._before == []
    assert len(Guard(nn.BatchNorm1d(3))._before) == 2


def test_one_bad_row_costs_its_step_each_epoch(tmp_path: Path) -> None:
    """The run ends well with finite weights; history and log name each step left out, the log its rows."""
    with SystemLogger(directory=tmp_path / "logs", terminal_level="error") as logger:
        net = Sensitive(first_value(100))
        result = run(tmp_path, classification(), net, logger=logger)
    skipped = entries(tmp_path, "skipped")
    assert [entry["epoch"] for entry in skipped] == [0, 1, 2, 3]
    assert result.num_steps == 32
    assert all(bool(torch.isfinite(tensor).all()) for tensor in net.state_dict().values())
    lines = map(json.loads, (tmp_path / "logs/training.jsonl").read_text().splitlines())
    told = [line for line in lines if line["event"] == "step_skipped"]
    assert [line["step"] for line in told] == [entry["step"] for entry in skipped]
    assert all(100 in line["positions"] and "nan" in line["reason"] for line in told)


class _NaNBack(torch.autograd.Function):
    """Finite forward, NaN backward."""

    @staticmethod
    def forward(context: object, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        return gradient * float("nan")


class BadGradient(Sensitive):
    """The gradient is NaN, and the loss is not, for every batch that holds the row `bad`."""

    def forward(self, values: Tensor) -> Tensor:
        outputs = self.inner(values)
        is_bad = self.training and bool((values[:, 0] == self.bad).any())
        return _NaNBack.apply(outputs) if is_bad else outputs  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("settings", [{"clip_norm": None}, {"clip_norm": None, "clip_value": 1.0}, {}])
def test_a_bad_gradient_alone_is_left_out_too(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Whether gradients are clipped or not, one that is not finite never reaches the weights."""
    net = BadGradient(first_value(100))
    run(tmp_path, classification(), net, epochs=2, **settings)
    assert [entry["epoch"] for entry in entries(tmp_path, "skipped")] == [0, 1]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in net.state_dict().values())


class BadEpoch(Sensitive):
    """Its answers in evaluation number `number` (from 0) are NaN."""

    def __init__(self, number: int) -> None:
        super().__init__(None)
        self.number = number
        self.evaluations = 0

    def forward(self, values: Tensor) -> Tensor:
        if self.training:
            return self.inner(values)
        self.evaluations += 1  # the validation part is one batch
        return self.inner(values) * (float("nan") if self.evaluations == self.number + 1 else 1.0)


def test_a_bad_validation_loss_is_a_bad_epoch(tmp_path: Path) -> None:
    """It is told, has no value in the history, is never the best, and the run goes on; weights are those of others."""
    with SystemLogger(directory=tmp_path / "logs", terminal_level="error") as logger:
        result = run(tmp_path, classification(), BadEpoch(1), logger=logger, learning_rate=0.01)
    assert result.num_epochs == 4
    told = [entry for entry in entries(tmp_path, "epoch") if "validation_loss" not in entry]
    assert [entry["epoch"] for entry in told] == [1]
    assert result.best_step != told[0]["step"]
    assert "validation_not_finite" in (tmp_path / "logs/training.jsonl").read_text()


def test_a_bad_validation_loss_follows_the_policy(tmp_path: Path) -> None:
    """Where steps end the run or go back, it does too."""
    with pytest.raises(NonFiniteLossError, match="validation loss at step 8"):
        run(tmp_path / "stop", classification(), BadEpoch(0), on_nonfinite="stop")
    result = run(tmp_path / "rollback", classification(), BadEpoch(0), on_nonfinite="rollback")
    assert [entry["from_step"] for entry in entries(tmp_path / "rollback", "rollback")] == [8]
    assert result.num_epochs == 4


def test_without_a_checkpoint_there_is_no_way_back(tmp_path: Path) -> None:
    """Where none is whole any more the run ends, with the error that made it go back."""

    def remove(record: StepRecord) -> None:
        first = tmp_path / "checkpoints/0"
        if record.step == 8:
            while not first.exists():
                time.sleep(0.01)
            shutil.rmtree(first)

    settings: dict[str, Any] = {"on_nonfinite": "rollback", "save_interval": 100, "observers": [remove]}
    with pytest.raises(NonFiniteLossError, match="validation loss at step 8"):
        run(tmp_path, classification(), BadEpoch(0), **settings)


def test_a_way_back_bears_a_save_that_failed(tmp_path: Path) -> None:
    """The newest checkpoint that there is will do: a failure that the run tolerates does not end it."""
    with SystemLogger(directory=tmp_path / "logs", terminal_level="error") as logger:
        trouble = NoFolder(tmp_path)

        def observe(record: StepRecord) -> None:
            if record.step == 4:
                while not (tmp_path / "checkpoints/0").exists():
                    time.sleep(0.01)
                trouble.begin()
            if record.step == 7:
                trouble.end()

        settings: dict[str, Any] = {"on_nonfinite": "rollback", "logger": logger, "observers": [observe]}
        run(tmp_path, classification(), BadEpoch(0), **settings)
    (rollback,) = entries(tmp_path, "rollback")
    assert (rollback["step"], rollback["from_step"]) == (0, 8)


def test_skipped_steps_resume_exactly(tmp_path: Path) -> None:
    """Stopped at any of its steps and resumed, the run ends with the bytes of an unbroken one; counts go on."""
    bad = first_value(100)
    calm = Sensitive(bad)
    run(tmp_path / "calm", classification(), calm)
    for stop in (3, 9, 17, 30):
        directory = tmp_path / str(stop)
        net = Sensitive(bad)
        asked = iter([False] * (stop - 1) + [True] * 9)
        with pytest.raises(InterruptedRunError):
            run(directory, classification(), net, should_stop=lambda asked=asked: next(asked))
        net = Sensitive(bad)
        run(directory, classification(), net, resume=True)
        assert weights(net) == weights(calm)
        assert (directory / "metrics.jsonl").read_bytes() == (tmp_path / "calm/metrics.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("settings", "left_out"),
    [({"max_skipped_in_a_row": 3}, 3), ({"max_skipped": 2}, 2)],
)
def test_a_diverging_run_ends_within_the_bound(tmp_path: Path, settings: dict[str, int], left_out: int) -> None:
    """When nothing is finite any more, the error says how many steps were left out first."""

    class Diverged(Sensitive):
        def forward(self, values: Tensor) -> Tensor:
            return self.inner(values) * float("nan")

    with pytest.raises(NonFiniteLossError, match=rf"step {left_out} .*\({left_out} steps were left out before\)"):
        run(tmp_path, classification(), Diverged(None), **settings)


class Explosive(nn.Module):
    """Its loss is NaN after a step that moved a weight by more than `limit`: the rate was too high."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(8, 3)
        self.register_buffer("previous", self.inner.weight.detach().clone())
        self.limit = limit

    def forward(self, values: Tensor) -> Tensor:
        weight = self.inner.weight.detach()
        assert isinstance(self.previous, Tensor)
        moved = (weight - self.previous).abs().max()
        self.previous.copy_(weight)
        return self.inner(values) * (float("nan") if self.training and moved > self.limit else 1.0)


ROLLBACK: dict[str, Any] = {
    "on_nonfinite": "rollback",
    "learning_rate": 0.05,
    "scheduler": "constant",
    "epochs": 1,
    "save_interval": 4,
}


def test_a_rollback_goes_on_with_a_lower_rate(tmp_path: Path) -> None:
    """Where the rate was too high, half of it, or a quarter, gets through; history and state say so."""
    net = Explosive(0.015)
    run(tmp_path, classification(), net, **ROLLBACK)
    (rollback,) = entries(tmp_path, "rollback")  # the history of what was gone back from is gone too
    assert (rollback["step"], rollback["from_step"], rollback["rate_factor"]) == (0, 1, 0.25)
    assert entries(tmp_path, "step")[0]["learning_rate"] == 0.25 * 0.05
    assert all(bool(torch.isfinite(tensor).all()) for tensor in net.state_dict().values())


def test_rollbacks_resume_exactly(tmp_path: Path) -> None:
    """Stopped after a rollback and resumed: the same bytes, and the same rate."""
    calm = Explosive(0.015)
    run(tmp_path / "calm", classification(), calm, **ROLLBACK)
    asked = iter([False] * 7 + [True] * 99)
    with pytest.raises(InterruptedRunError):
        run(tmp_path / "cut", classification(), Explosive(0.015), should_stop=lambda: next(asked), **ROLLBACK)
    net = Explosive(0.015)
    run(tmp_path / "cut", classification(), net, resume=True, **ROLLBACK)
    assert weights(net) == weights(calm)
    assert (tmp_path / "cut/metrics.jsonl").read_bytes() == (tmp_path / "calm/metrics.jsonl").read_bytes()


def test_rollbacks_are_bounded(tmp_path: Path) -> None:
    """A batch that is bad at any rate ends the run, which says that it tried."""
    with pytest.raises(NonFiniteLossError, match=r"it went back 2 times before"):
        run(tmp_path, classification(), Sensitive(first_value(3)), on_nonfinite="rollback", max_rollbacks=2)


def test_the_counts_go_over(tmp_path: Path) -> None:
    """State out, state in."""
    steps = NonFiniteSteps(TrainConfig(max_skipped=2))
    assert (steps.skip(), steps.skip(), steps.skip()) == (True, True, False)
    other = NonFiniteSteps(TrainConfig())
    other.load_state_dict(steps.state_dict())
    assert (other.skipped, other.in_a_row) == (2, 3)
    assert other.state_dict() == steps.state_dict()
