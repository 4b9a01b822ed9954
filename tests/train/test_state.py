"""The folder of checkpoints: which is kept, which is taken, and what a broken one costs."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from corelane.core.errors import StateError
from corelane.observe.log import SystemLogger
from corelane.train.config import TrainConfig
from corelane.train.retention import Retention
from corelane.train.schedule import Schedule
from corelane.train.state import TrainingStateManager, saved_steps
from tests.train.examples import dropout_net, weights


class Bench:
    """A net with its optimiser and schedule, all of whose state follows from `seed` and the number of steps."""

    def __init__(self, seed: int = 0) -> None:
        self.net = dropout_net(seed=seed)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), fused=True)
        self.schedule = Schedule(self.optimizer, TrainConfig(), 100)

    @property
    def parts(self) -> tuple[nn.Module, torch.optim.Optimizer, Schedule]:
        return self.net, self.optimizer, self.schedule

    def step(self) -> None:
        self.net(torch.ones(4, 8)).square().sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()


def manager(tmp_path: Path, log: io.StringIO | None = None, **options: Any) -> TrainingStateManager:
    return TrainingStateManager(tmp_path / "checkpoints", logger=SystemLogger(stream=log or io.StringIO()), **options)


def save(state: TrainingStateManager, bench: Bench, step: int) -> None:
    bench.step()
    state.counters.step = step
    state.history.add("step", {"step": step})
    state.save_checkpoint(*bench.parts, {"validation_loss": 1.0 / step})


def test_everything_comes_back(tmp_path: Path) -> None:
    """Weights, optimiser, schedule, generators, counters, history, best weights and metrics are those of the save."""
    bench, state = Bench(), manager(tmp_path)
    state.history.reset()
    state.counters.epoch, state.counters.batch, state.counters.best_metric = 2, 5, 0.25
    state.counters.loss_sum, state.counters.seconds = 0.1 + 0.2, {"data": 1.5}
    state.keep_best(dropout_net(seed=5))
    save(state, bench, 12)
    expected = torch.rand(3)
    state.history.add("step", {"step": 13})

    other, resumed = Bench(seed=1), manager(tmp_path)
    assert resumed.resume(*other.parts)
    assert torch.equal(torch.rand(3), expected)
    assert resumed.counters == state.counters
    assert resumed.metrics == {"validation_loss": 1 / 12}
    assert [entry["step"] for entry in resumed.history.entries("step")] == [12]
    bench.step()
    torch.rand(0)
    assert other.schedule.learning_rate == bench.schedule.rate_of(1)
    best = dropout_net()
    resumed.load_best().load_into(best)
    assert weights(best) == weights(dropout_net(seed=5))
    assert resumed.durable_step == 12


def test_the_state_is_the_specified_dict(tmp_path: Path) -> None:
    """`state` tells epoch, step, best metric, learning rate and the three states as of the last save."""
    bench, state = Bench(), manager(tmp_path)
    assert state.state["model_state"] is None
    save(state, bench, 3)
    assert state.state["step"] == 3
    assert state.state["learning_rate"] == bench.schedule.learning_rate
    assert state.state["model_state"].keys() == bench.net.state_dict().keys()
    assert state.state["optimizer_state"]["state"].keys() == {0, 1, 2, 3}
    assert state.state["scheduler_state"] == bench.schedule.state_dict()


def test_the_interval_decides_when(tmp_path: Path) -> None:
    """A save is due after every `save_interval` steps."""
    state = manager(tmp_path, save_interval=4)
    due = []
    for step in range(1, 10):
        state.counters.step = step
        due.append(state.is_due())
    assert [step for step, is_due in enumerate(due, 1) if is_due] == [4, 8]


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    """As many as `keep` stay, by step and not by name; nothing else is left in the folder."""
    bench, state = Bench(), manager(tmp_path, retention=Retention(last=2))
    for step in (8, 9, 10, 11):
        save(state, bench, step)
    assert saved_steps(state.checkpoint_dir) == [10, 11]
    assert len(list(state.checkpoint_dir.iterdir())) == 2


def test_a_broken_checkpoint_costs_its_steps_only(tmp_path: Path) -> None:
    """The newest whole one is taken, broken ones are set aside, the log says so, and their step can be saved anew."""
    bench, state, log = Bench(), manager(tmp_path), io.StringIO()
    for step in (1, 2, 3):
        save(state, bench, step)
    model = state.checkpoint_dir / "3/model.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    (state.checkpoint_dir / "2/state.json").unlink()

    other = Bench()
    resumed = manager(tmp_path, log)
    assert resumed.resume(*other.parts)
    assert resumed.counters.step == 1
    assert {path.name for path in state.checkpoint_dir.iterdir()} == {"1", "2.broken", "3.broken"}
    assert "checkpoint_broken" in log.getvalue()
    assert "model.safetensors" in log.getvalue()
    save(resumed, other, 3)
    assert saved_steps(state.checkpoint_dir) == [1, 3]


def test_leftovers_of_a_crash_are_swept(tmp_path: Path) -> None:
    """An unfinished save and a half-removed old checkpoint are neither taken nor kept."""
    bench, state = Bench(), manager(tmp_path)
    save(state, bench, 5)
    for name in (".6.0123456789abcdef.tmp", f".4.{0:016x}.tmp"):
        (state.checkpoint_dir / name).mkdir()
        (state.checkpoint_dir / name / "model.safetensors").write_bytes(b"half")
    assert manager(tmp_path).resume(*Bench().parts)
    assert [path.name for path in state.checkpoint_dir.iterdir()] == ["5"]


def test_what_is_resumed_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer may have been killed before it flushed the checkpoint's name: that is done before it is announced."""
    save(manager(tmp_path), Bench(), 5)
    flushed: list[Path] = []
    flush = os.fsync

    def record(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    resumed = manager(tmp_path)
    assert resumed.resume(*Bench(seed=1).parts)
    assert resumed.durable_step == 5
    assert {tmp_path / "checkpoints", tmp_path} <= set(flushed)


def test_nothing_to_resume(tmp_path: Path) -> None:
    """Without a checkpoint `resume` says no and changes nothing; asking for the best weights is an error."""
    bench = Bench()
    before = weights(bench.net)
    assert not manager(tmp_path).resume(*bench.parts)
    assert weights(bench.net) == before
    with pytest.raises(StateError, match="must hold a whole checkpoint"):
        manager(tmp_path).load_best()


def test_another_identity_is_refused(tmp_path: Path) -> None:
    """A checkpoint of other data, or one that says nothing of it, is refused with both digests named."""
    save(manager(tmp_path, identity={"data": "old"}), Bench(), 1)
    with pytest.raises(StateError, match=r"the data must be .*\(old\), got new"):
        manager(tmp_path, identity={"data": "new"}).resume(*Bench().parts)
    with pytest.raises(StateError, match="got None"):
        manager(tmp_path).resume(*Bench().parts)


def test_another_environment_is_said_in_words(tmp_path: Path) -> None:
    """Another number of threads may change the last bits: the run goes on, with a warning that says so."""
    before, log = torch.get_num_threads(), io.StringIO()
    torch.set_num_threads(1)
    try:
        save(manager(tmp_path), Bench(), 1)
        torch.set_num_threads(2)
        assert manager(tmp_path, log).resume(*Bench().parts)
    finally:
        torch.set_num_threads(before)
    assert "resume_not_exact" in log.getvalue()
    assert "1 -> 2" in log.getvalue()


def test_without_an_evaluation_the_newest_weights_are_best(tmp_path: Path) -> None:
    """`load_best` falls back to the newest checkpoint's own weights."""
    bench, state = Bench(), manager(tmp_path)
    save(state, bench, 1)
    other = dropout_net(seed=4)
    manager(tmp_path).load_best().load_into(other)
    assert weights(other) == weights(bench.net)
