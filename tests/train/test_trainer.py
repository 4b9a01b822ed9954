"""The trainer: the same bytes however often it was broken off, and a clear end when it cannot go on."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from corelane.core.errors import ConfigError, DataError, InterruptedRunError, NonFiniteLossError, StateError
from corelane.machine.memory import MemoryManager
from corelane.observe.log import SystemLogger
from corelane.store.tiers.memory import MemoryTier
from corelane.train.checkpoint import read_checkpoint
from corelane.train.config import AugmentConfig
from corelane.train.heartbeat import NoHeart, Phase
from corelane.train.record import StepRecord
from corelane.train.state import saved_steps
from tests.train.examples import (
    NoFolder,
    binary,
    classification,
    dropout_net,
    multi_label,
    on_disk,
    picture_net,
    pictures,
    regression,
    run,
    weights,
)


class PowerCut(BaseException):
    """Ends a run at once, as nothing in the trainer expects."""


class GlobalNoise(nn.Module):
    """A user's layer that draws from NumPy's and Python's global generators."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return values
        return values * (1 + 0.1 * random.random()) + float(np.random.normal(scale=0.1))


def noisy_net() -> nn.Module:
    return nn.Sequential(GlobalNoise(), dropout_net())


CASES = {
    "classification": (classification, dropout_net, {}),
    "regression": (regression, lambda: dropout_net(1), {"scheduler": "one_cycle"}),
    "channels_last": (pictures, picture_net, {}),
    "global generators": (classification, noisy_net, {"clip_norm": None, "scheduler": "constant"}),
    "pictures augmented": (
        pictures,
        picture_net,
        {"augment": AugmentConfig(flip=0.5, shift=1, cutout=2, mixup=0.4, cutmix=1.0)},
    ),
    "tables augmented": (
        regression,
        lambda: dropout_net(1),
        {"augment": AugmentConfig(noise=0.2, swap=0.2, mixup=0.2)},
    ),
    "binary": (
        binary,
        lambda: dropout_net(1),
        {"label_smoothing": 0.1, "class_weights": {"yes": 3.0}, "augment": AugmentConfig(mixup=0.2)},
    ),
    "multi-label": (multi_label, dropout_net, {"class_weights": "balanced", "augment": AugmentConfig(mixup=0.2)}),
    "weighted": (
        classification,
        dropout_net,
        {"label_smoothing": 0.1, "class_weights": "balanced", "micro_batch_size": 9},
    ),
    "early stopping": (classification, dropout_net, {"learning_rate": 0.05, "early_stopping_patience": 1, "epochs": 9}),
}


def after(steps: int, action: Callable[[], bool]) -> Callable[[], bool]:
    """A `should_stop` that says no until it was asked `steps` times, then does `action`."""
    count = itertools.count(1)
    return lambda: action() if next(count) == steps else False


def cut() -> bool:
    raise PowerCut


@pytest.mark.parametrize("case", CASES)
def test_broken_off_and_resumed_equals_uninterrupted(tmp_path: Path, case: str) -> None:
    """Asked to stop, or broken off without a save, at many steps: weights and history end byte for byte the same."""
    make_data, make_net, settings = CASES[case]
    data = make_data()
    calm, broken = make_net(), make_net()
    expected = run(tmp_path / "calm", data, calm, **settings)

    for number, steps in enumerate([3, 1, 7, 8, 2, 6, 5, 4, 9] * 3):
        action = cut if number % 2 else lambda: True
        broken = make_net()
        try:
            result = run(tmp_path / "broken", data, broken, resume=True, should_stop=after(steps, action), **settings)
            break
        except (InterruptedRunError, PowerCut):
            random.random()  # what another process does to the generators in the meantime does not matter
            torch.rand(3)

    assert number >= 4
    assert weights(broken) == weights(calm)
    assert (tmp_path / "broken/metrics.jsonl").read_bytes() == (tmp_path / "calm/metrics.jsonl").read_bytes()
    assert (result.metrics, result.num_steps, result.best_step) == (
        expected.metrics,
        expected.num_steps,
        expected.best_step,
    )


@pytest.mark.parametrize("limit_bytes", [3000, 1 << 20])
@pytest.mark.parametrize("case", ["classification", "channels_last", "pictures augmented"])
def test_what_is_kept_in_memory_changes_no_byte(tmp_path: Path, case: str, limit_bytes: int) -> None:
    """With a cache in memory that holds everything, or a part, or is taken away meanwhile: the same weights."""
    make_data, make_net, settings = CASES[case]
    data, calm, kept = on_disk(make_data(), tmp_path / "arrays"), make_net(), make_net()
    expected = run(tmp_path / "calm", data, calm, **settings)
    tier = MemoryTier(MemoryManager(limit_bytes=100 << 20), limit_bytes)
    taken = after(12, lambda: [tier.remove(key) for key in list(tier._kept)] == [0])
    result = run(tmp_path / "kept", data, kept, cache=tier, should_stop=taken, **settings)
    assert weights(kept) == weights(calm)
    assert result.metrics == expected.metrics
    assert tier.meter.counts.hits > 0 or limit_bytes < 1 << 20
    tier.close()


class _Writing(nn.Module):
    """Writes to its inputs by `way`, and gives them on."""

    def __init__(self, way: Callable[[Tensor], object]) -> None:
        super().__init__()
        self._way = way

    def forward(self, inputs: Tensor) -> Tensor:
        self._way(inputs)
        return inputs


@pytest.mark.parametrize(
    "way",
    [
        lambda inputs: inputs.mul_(2),
        lambda inputs: inputs.data.mul_(2),
        lambda inputs: np.multiply(inputs.numpy(), 2, out=inputs.numpy()),
    ],
    ids=["in place", "past autograd", "through NumPy"],
)
def test_a_net_that_works_in_place_on_its_inputs_spoils_nothing(
    tmp_path: Path, way: Callable[[Tensor], object]
) -> None:
    """However a module writes to its batch, what is kept in memory stays as it is: every evaluation sees the data."""
    data = on_disk(classification(), tmp_path / "arrays")
    results = []
    for name, limit_bytes in (("calm", 0), ("kept", 1 << 20)):
        tier, net = MemoryTier(MemoryManager(limit_bytes=100 << 20), limit_bytes), dropout_net()
        module = nn.Sequential(_Writing(way), net)
        results.append((run(tmp_path / name, data, module, cache=tier).metrics, weights(net)))
        assert tier.usage.num_entries == (2 if limit_bytes else 0), "the training part, and a batch of the validation"
        tier.close()
    assert results[0] == results[1]


def test_without_a_best_epoch_the_last_weights_are_the_result(tmp_path: Path) -> None:
    """Without validation rows the result is what the last checkpoint holds."""
    net, other = dropout_net(), dropout_net(seed=3)
    result = run(tmp_path, classification(parts=(0.85, 0.85)), net)
    read_checkpoint(tmp_path / "checkpoints" / str(result.num_steps)).model.load_into(other)
    assert weights(net) == weights(other)


def test_other_seed_other_weights(tmp_path: Path) -> None:
    """The seed decides order and dropout: the same one gives the same bytes, another one others."""
    nets = {name: dropout_net() for name in ("first", "again", "other")}
    for name, net in nets.items():
        run(tmp_path / name, classification(), net, seed=8 if name == "other" else 7)
    assert weights(nets["first"]) == weights(nets["again"]) != weights(nets["other"])


def test_the_best_weights_are_the_result(tmp_path: Path) -> None:
    """The module ends with the weights of the epoch with the lowest validation loss, not with the last ones."""
    net = dropout_net()
    result = run(tmp_path, classification(), net, epochs=12, learning_rate=0.1, scheduler="constant")
    entries = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = {entry["step"]: entry["validation_loss"] for entry in entries if entry["kind"] == "epoch"}
    assert result.best_step == min(losses, key=lambda step: losses[step]) < result.num_steps
    assert result.validation is not None
    assert result.validation.loss == losses[result.best_step]


def test_early_stopping_counts_epochs_without_a_better_one(tmp_path: Path) -> None:
    """Training stops when the patience is used up, and says so."""
    result = run(
        tmp_path,
        classification(),
        dropout_net(),
        epochs=200,
        learning_rate=0.1,
        early_stopping_patience=2,
        scheduler="constant",
    )
    steps_per_epoch = result.num_steps // result.num_epochs
    assert result.stopped_early
    assert result.num_epochs == result.best_step // steps_per_epoch + 2 < 200


def test_it_learns(tmp_path: Path) -> None:
    """A net learns what can be learned: both tasks, in the target's own unit."""
    settings = {"epochs": 20, "learning_rate": 0.01, "save_interval": 1000}
    result = run(tmp_path / "classes", classification(1000), dropout_net(), **settings)
    assert result.metrics["test_accuracy"] > 0.8
    result = run(tmp_path / "values", regression(1000), dropout_net(1), **settings)
    assert result.metrics["test_rmse"] < 15
    assert result.metrics["test_r2"] > 0.7


@pytest.mark.parametrize("interval", [1, 1000])
def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path, interval: int) -> None:
    """The error names the step and the learning rate and says what to try; the last good checkpoint is whole."""

    class Diverging(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = dropout_net()
            self.calls = 0

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            self.calls += self.training
            return self.inner(values) * (float("nan") if self.calls > 12 else 1.0)

    with pytest.raises(
        NonFiniteLossError, match=r"loss at step 12 must be finite, got nan at learning rate .*train\.learning_rate"
    ):
        run(tmp_path, classification(), Diverging(), log_interval=interval, on_nonfinite="stop")
    steps = saved_steps(tmp_path / "checkpoints")
    assert steps == [5, 10]
    checkpoint = read_checkpoint(tmp_path / "checkpoints/10")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in checkpoint.model.tensors.values())


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    """A rate that throws the weights out of range in one good step is found before the checkpoint is written."""
    settings = {"optimizer": "sgd", "learning_rate": 1e39, "scheduler": "constant", "warmup_fraction": 0.0}
    with pytest.raises(NonFiniteLossError, match="weights at step 1"):
        run(tmp_path, classification(), dropout_net(), save_interval=1, clip_norm=None, **settings)
    assert saved_steps(tmp_path / "checkpoints") == []


@pytest.mark.parametrize("stop", [5, 7])
def test_a_stop_saves_after_a_save_that_failed(tmp_path: Path, stop: int) -> None:
    """A failure that the run tolerates is none of a stop's: where it was asked to stop, the state is saved."""
    trouble = NoFolder(tmp_path)

    def observe(record: StepRecord) -> None:
        if record.step == 4:
            trouble.begin()

    def end() -> bool:
        trouble.end()
        return True

    with SystemLogger(directory=tmp_path / "logs", terminal_level="error") as logger:
        settings: dict[str, Any] = {"logger": logger, "should_stop": after(stop, end), "observers": [observe]}
        with pytest.raises(InterruptedRunError, match=f"saved at step {stop}"):
            run(tmp_path, classification(), dropout_net(), **settings)
    assert saved_steps(tmp_path / "checkpoints") == [stop]


class Phases(NoHeart):
    """Keeps the phases that a trainer enters, without repetitions; `-` is a step."""

    def __init__(self) -> None:
        self.seen = [""]

    def beat(self, step: int, epoch: int, batch: int) -> None:
        """A step."""
        self._see("-")

    def enter(self, phase: Phase) -> None:
        """A phase."""
        self._see(phase)

    def _see(self, what: str) -> None:
        if self.seen[-1] != what:
            self.seen.append(what)


def test_each_piece_of_a_batch_is_a_sign_of_life(tmp_path: Path) -> None:
    """A step in many pieces takes long; whoever watches for hangs sees it move on."""

    class Signs(Phases):
        def _see(self, what: str) -> None:
            self.seen.append(what)

    signs = Signs()
    run(tmp_path, classification(), dropout_net(), epochs=1, micro_batch_size=8, save_interval=100, heart=signs)
    first = signs.seen.index("-", signs.seen.index("train"))
    assert signs.seen[first - 4 : first + 6] == [*["train"] * 4, "-", *["train"] * 4, "-"]


def test_waiting_for_the_last_save_is_a_save(tmp_path: Path) -> None:
    """At the end, and when asked to stop: whoever watches for hangs does not take a slow disk for a slow step."""
    phases = Phases()
    run(tmp_path / "whole", classification(), dropout_net(), epochs=1, save_interval=100, heart=phases)
    last_step = len(phases.seen) - phases.seen[::-1].index("-")
    assert phases.seen[last_step:] == ["save", "finish", "evaluate", "finish"]
    phases = Phases()
    stop = after(2, lambda: True)
    with pytest.raises(InterruptedRunError):
        run(tmp_path / "stopped", classification(), dropout_net(), should_stop=stop, heart=phases)
    assert phases.seen[-1] == "save"


class Wide(nn.Module):
    """Notes how many rows go through it at once when it is evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = dropout_net()
        self.most = 0

    def forward(self, values: Tensor) -> Tensor:
        self.most = max(self.most, 0 if self.training else len(values))
        return self.inner(values)


def test_evaluations_take_no_more_rows_than_steps(tmp_path: Path) -> None:
    """Where the memory is small, the validation part and the test part go through the network in its pieces too."""
    net = Wide()
    result = run(tmp_path, classification(), net, epochs=1, micro_batch_size=8)
    assert result.test is not None
    assert net.most == 8


def test_a_run_is_not_written_over(tmp_path: Path) -> None:
    """Where checkpoints are, a start without resume is refused and they stay."""
    run(tmp_path, classification(), dropout_net())
    before = saved_steps(tmp_path / "checkpoints")
    with pytest.raises(ConfigError, match="resume"):
        run(tmp_path, classification(), dropout_net())
    assert saved_steps(tmp_path / "checkpoints") == before


def test_another_run_is_not_resumed(tmp_path: Path) -> None:
    """Another seed or configuration is named and refused; settings without effect on the weights may change."""
    with pytest.raises(InterruptedRunError, match="--resume"):
        run(tmp_path, classification(), dropout_net(), should_stop=lambda: True)
    with pytest.raises(StateError, match="seed must be"):
        run(tmp_path, classification(), dropout_net(), resume=True, seed=8)
    with pytest.raises(StateError, match="configuration must be"):
        run(tmp_path, classification(), dropout_net(), resume=True, epochs=5)
    with pytest.raises(StateError, match=r"'0\.weight' must be"):
        run(
            tmp_path,
            classification(),
            nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.ReLU(), nn.Linear(5, 3)),
            resume=True,
        )
    run(tmp_path, classification(), dropout_net(), resume=True, save_interval=3, keep_checkpoints=2)


def test_a_finished_run_is_resumed_at_no_cost(tmp_path: Path) -> None:
    """Resuming at the end takes no step and gives the same result."""
    first, again = dropout_net(), dropout_net()
    expected = run(tmp_path, classification(), first)
    (tmp_path / "result.json").unlink()
    result = run(tmp_path, classification(), again, resume=True)
    assert (result.metrics, result.num_steps) == (expected.metrics, expected.num_steps)
    assert weights(first) == weights(again)
    assert (tmp_path / "result.json").is_file()


def test_fewer_rows_than_a_batch_are_one_batch(tmp_path: Path) -> None:
    """A training part smaller than the batch size trains on all its rows at once."""
    result = run(tmp_path, classification(40), dropout_net(), batch_size=64, epochs=3)
    assert result.num_steps == 3


def test_without_validation_part_the_last_weights_count(tmp_path: Path) -> None:
    """No validation rows: nothing to choose by, so the run ends with its last weights; early stopping is refused."""
    data = classification(parts=(0.8, 0.8))
    result = run(tmp_path / "run", data, dropout_net())
    assert result.validation is None
    assert result.best_step == result.num_steps
    with pytest.raises(ConfigError, match="early_stopping_patience"):
        run(tmp_path / "stop", data, dropout_net(), early_stopping_patience=2)


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    """No training rows, or nothing to learn in the net, is an error before the first step."""
    with pytest.raises(ConfigError, match="parameters to train, got none in ReLU"):
        run(tmp_path / "relu", classification(), nn.ReLU())
    empty = classification()
    data = type(empty)(
        **{**{name: getattr(empty, name) for name in empty.__slots__}, "train": classification(parts=(0.7, 1.0)).test}
    )
    with pytest.raises(DataError, match="training part must have rows"):
        run(tmp_path / "rows", data, dropout_net())
