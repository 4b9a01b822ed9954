"""Real searches on small networks: nothing is changed by them, and their plans are kept."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from corelane.core.clock import SystemClock
from corelane.core.errors import ConfigError, InterruptedRunError
from corelane.data.prepared import PreparedData
from corelane.data.processor import CPUDataProcessor
from corelane.machine.cpu import Machine
from corelane.observe.config import ObserveConfig
from corelane.observe.log import SystemLogger
from corelane.store.plan_cache import PlanCache, write_plan
from corelane.train import randomness
from corelane.train.config import TrainConfig
from corelane.train.plan import Candidate, candidate_of, read_plan
from corelane.train.planning import Planner, Site, network_facts
from tests.train.examples import classification, dropout_net, fixed_plan, picture_net, pictures, run, weights

LONG = {"epochs": 2100, "batch_size": 32}  # thousands of steps: enough to be searched, and never taken here


@contextmanager
def planner(
    tmp_path: Path, module: nn.Module, data: PreparedData | None = None, *, should_stop: bool = False, **settings: Any
) -> Iterator[Planner]:
    options = {name: settings.pop(name) for name in ("room_bytes", "engines", "busy_share") if name in settings}
    threads = settings.pop("threads", 1)
    with CPUDataProcessor(num_workers=1) as processor:
        yield Planner(
            TrainConfig(**{**LONG, **settings}),
            module=module,
            data=data or pictures(),
            processor=processor,
            seed=7,
            site=Site(Machine.detect(), threads, {"GOMP_SPINCOUNT": "10000"}),
            cache=PlanCache(tmp_path / "cache", SystemLogger(ObserveConfig(log_level="error")), candidate_of),
            clock=SystemClock(),
            should_stop=lambda: should_stop,
            **{"busy_share": 1.0, "engines": (), **options},
        )


def directory(tmp_path: Path, name: str = "run") -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


def test_a_search_times_threads_and_layouts(tmp_path: Path) -> None:
    """Each combination has its time and its verdict; one is chosen, and the reason names it."""
    with planner(tmp_path, picture_net(), threads=2, epochs=3000) as chooser:
        plan = chooser.plan(directory(tmp_path))
    float32 = [trial for trial in plan.candidates if trial.candidate.precision == "float32"]
    assert {(trial.candidate.threads, trial.candidate.memory_format) for trial in float32} == {
        (threads, layout) for threads in (1, 2) for layout in ("contiguous", "channels_last")
    }
    timed = [trial for trial in float32 if not trial.verdict.startswith("not tried")]
    assert len(timed) > 1
    assert all(trial.step_s is not None and 0.0 < trial.step_s < 1.0 for trial in timed)
    assert all(trial.agreement is not None and trial.agreement <= plan.tolerance for trial in timed)
    assert all(trial.verdict for trial in plan.candidates)
    assert str(plan.chosen) in plan.reason
    assert plan.environment == {"GOMP_SPINCOUNT": "10000"}
    assert read_plan(tmp_path / "run/plan.json") == plan


def test_a_search_leaves_everything_as_it_was(tmp_path: Path) -> None:
    """Weights, batch statistics, gradients, modes and all three random generators are untouched."""
    net = picture_net()
    net.eval()
    before, states = weights(net), randomness.capture()
    num_threads = torch.get_num_threads()
    with planner(tmp_path, net) as chooser:
        chooser.plan(directory(tmp_path))
    assert weights(net) == before
    assert randomness.capture() == states
    assert torch.get_num_threads() == num_threads
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert not any(part.training for part in net.modules())


def test_a_searched_run_has_the_bytes_of_one_that_was_not(tmp_path: Path) -> None:
    """The same plan and seed give the same weights and history, whether the plan was just searched or handed over."""
    searched, handed = picture_net(), picture_net()
    with planner(tmp_path, searched) as chooser:
        plan = chooser.plan(directory(tmp_path, "searched"))
    run(tmp_path / "searched", pictures(), searched, plan=plan)
    run(tmp_path / "handed", pictures(), handed, plan=plan)
    assert weights(searched) == weights(handed)
    histories = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("searched", "handed")]
    assert histories[0] == histories[1]


def test_an_engine_that_cannot_is_dropped_with_its_reason(tmp_path: Path) -> None:
    """Compiled dropout would draw other noise: the engine says so, and the plan keeps the sentence."""
    with planner(tmp_path, picture_net(), engines=("compiled",), epochs=10**7) as chooser:
        plan = chooser.plan(directory(tmp_path))
    trial = next(trial for trial in plan.candidates if trial.candidate.engine == "compiled")
    assert trial.verdict.startswith("cannot be used: ")
    assert "dropout" in trial.verdict
    assert plan.chosen.engine == "eager"


@pytest.mark.slow
def test_a_compiled_step_is_timed_beside_the_eager_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a run long enough it is compiled, agrees, and its trial has the seconds that compiling took."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    with planner(tmp_path, net, classification(), engines=("compiled",), epochs=10**7) as chooser:
        plan = chooser.plan(directory(tmp_path))
    trial = next(trial for trial in plan.candidates if trial.candidate.engine == "compiled")
    assert trial.step_s is not None
    assert trial.agreement is not None
    assert trial.agreement < 1e-3
    assert trial.startup_s > 0.1


class Stubborn(nn.Module):
    """A network of a user's that draws from the other generators, and may refuse to be copied."""

    def __init__(self, *, copies: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 3)
        self.copies = copies

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(inputs) * (1.0 + 0.1 * random.random() + 0.1 * float(np.random.rand()))

    def __deepcopy__(self, memo: dict[int, Any]) -> Stubborn:
        if not self.copies:
            raise TypeError("I am one of a kind")
        copied = Stubborn(copies=True)
        copied.load_state_dict(self.state_dict())
        return copied


def test_a_users_network_is_searched_or_not(tmp_path: Path) -> None:
    """One that draws from NumPy's and Python's generators leaves them as they were; one that cannot be copied gets the
    fixed plan, with the reason."""
    net, data = Stubborn(copies=True), classification()
    states = randomness.capture()
    with planner(tmp_path, net, data, threads=2) as chooser:
        assert len(chooser.plan(directory(tmp_path, "copied")).candidates) > 1
    assert randomness.capture() == states
    with planner(tmp_path, Stubborn(copies=False), data, batch_size=31) as chooser:
        plan = chooser.plan(directory(tmp_path, "single"))
    assert plan.chosen == Candidate(1)
    assert plan.reason.endswith("fixed, since the network cannot be copied: I am one of a kind")


def test_a_short_run_is_not_searched(tmp_path: Path) -> None:
    """A run of a few steps has the default plan, after half a dozen steps; it says why."""
    with planner(tmp_path, dropout_net(), classification(), epochs=2) as chooser:
        plan = chooser.plan(directory(tmp_path))
    assert [trial.candidate for trial in plan.candidates] == [plan.chosen]
    assert "not searched, the whole run is predicted to take" in plan.reason


def test_a_plan_is_searched_once(tmp_path: Path) -> None:
    """Another run of the same kind takes the plan from the cache; a broken file there is searched again."""
    net = dropout_net()
    with planner(tmp_path, net, classification()) as chooser:
        plan = chooser.plan(directory(tmp_path, "first"))
    kept = tmp_path / "cache/plans" / f"{plan.key}.json"
    marked = fixed_plan(Candidate(1))
    write_plan(kept, marked)
    with planner(tmp_path, net, classification(), epochs=2150, learning_rate=0.1) as chooser:
        assert chooser.plan(directory(tmp_path, "second")) == marked
        kept.write_bytes(kept.read_bytes()[:-20])
        again = chooser.plan(directory(tmp_path, "third"))
    assert again.key == plan.key
    assert read_plan(kept) == again


def test_what_was_searched_on_a_busy_machine_is_not_kept(tmp_path: Path) -> None:
    """The run has its plan, whose reason says so; the next run searches again."""
    with planner(tmp_path, dropout_net(), classification(), busy_share=-1.0) as chooser:
        plan = chooser.plan(directory(tmp_path))
    assert plan.reason.endswith("of the processor meanwhile, so it is not kept for other runs")
    assert read_plan(tmp_path / "run/plan.json") == plan
    assert not (tmp_path / "cache").exists()


def test_the_key_tells_apart_what_moves_a_time(tmp_path: Path) -> None:
    """Network, batch, optimiser and length are in the key; what only moves the result is not."""
    settings: list[dict[str, Any]] = [
        {},
        {"batch_size": 33},
        {"optimizer": "sgd"},
        {"ema_decay": 0.9},
        {"epochs": 50_000},
        {"micro_batch_size": 8},
    ]
    keys = []
    for changed in settings:
        with planner(tmp_path, dropout_net(), classification(), **changed) as chooser:
            keys.append(chooser.fixed().key)
    with planner(tmp_path, dropout_net(num_outputs=4), classification()) as chooser:
        keys.append(chooser.fixed().key)
    assert len(set(keys)) == len(keys)
    for same in ({"learning_rate": 0.5}, {"save_interval": 7}, {"scheduler": "constant"}, {"epochs": 2200}):
        with planner(tmp_path, dropout_net(), classification(), **same) as chooser:
            assert chooser.fixed().key == keys[0]


def test_options_of_layers_tell_networks_apart() -> None:
    """A stride changes no shape of a weight, and still the time of a step."""
    assert network_facts(nn.Conv2d(1, 2, 3)) != network_facts(nn.Conv2d(1, 2, 3, stride=2))


def test_modes(tmp_path: Path) -> None:
    """eager measures nothing, a file is used as it is, and a run keeps what it has whatever is asked for."""
    file, net = tmp_path / "mine.json", dropout_net()
    write_plan(file, fixed_plan(Candidate(1, precision="bf16")))
    with planner(tmp_path, net, classification()) as chooser:
        assert (
            chooser.plan(directory(tmp_path, "eager"), "eager").reason
            == "eager, 1 thread, float32: fixed, as configured"
        )
        assert chooser.plan(directory(tmp_path, "filed"), str(file)) == read_plan(file)
        assert chooser.plan(tmp_path / "filed", "eager") == read_plan(file)
        with pytest.raises(ConfigError, match="must be auto, eager or a file"):
            chooser.plan(directory(tmp_path, "none"), str(tmp_path / "none.json"))


def test_a_search_stops_when_asked(tmp_path: Path) -> None:
    """A stop during the search ends the run, resumable, and leaves no plan."""
    with planner(tmp_path, picture_net(), should_stop=True) as chooser, pytest.raises(InterruptedRunError):
        chooser.plan(directory(tmp_path))
    assert not (tmp_path / "run/plan.json").exists()


def test_copies_that_do_not_fit_are_not_made(tmp_path: Path) -> None:
    """Where the memory holds the network and not two copies of it in training, the plan is fixed and says so."""
    with planner(tmp_path, picture_net(), room_bytes=15_000) as chooser:
        assert "no room for copies" in chooser.plan(directory(tmp_path)).reason


def test_an_exhaustive_search_times_every_candidate(tmp_path: Path) -> None:
    """All of them have a time, but those that disagree; dropout rules out what is compiled, which is told."""
    with planner(tmp_path, picture_net(), threads=2) as chooser:
        plan = chooser.exhaust(directory(tmp_path))
    untimed = [trial for trial in plan.candidates if trial.step_s is None]
    assert all("differ" in trial.verdict or "dropout" in trial.verdict for trial in untimed)
    assert len(plan.candidates) >= 4
