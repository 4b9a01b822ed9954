"""Every engine gives the same training: the same losses, weights and optimiser state as operator by operator."""

from __future__ import annotations

import copy
from typing import Any, get_args

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, dropout

from corelane.core.clock import SystemClock
from corelane.core.errors import ConfigError
from corelane.model.nets.numbers import NumberEmbedding
from corelane.train.config import TrainConfig
from corelane.train.engines.engine import why_not
from corelane.train.learner import Learner
from corelane.train.losses import Loss
from corelane.train.plan import Candidate, Engine
from corelane.train.timing import StopWatch
from tests.train.examples import dropout_net

ENGINES = get_args(Engine)


@pytest.fixture(autouse=True)
def own_compile_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled stays in this test's folder."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


def learner(engine: Engine, *, module: nn.Module | None = None, loss: Loss = cross_entropy, **settings: Any) -> Learner:
    return Learner(
        TrainConfig(**settings),
        module or net(),
        loss,
        candidate=Candidate(threads=1, engine=engine),
        total_steps=10,
        micro_batch_size=32,
        watch=StopWatch(SystemClock()),
    )


def batches() -> list[tuple[list[torch.Tensor], torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [([torch.randn(32, 8, generator=generator)], torch.arange(32) % 3) for _ in range(6)]


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_an_engine_trains_as_the_eager_one(engine: Engine) -> None:
    """Losses, norms, weights, moments and averages after six steps are those of the eager engine, up to rounding; a
    step that is not finite in the middle changes nothing with either.
    """
    plain, other = learner("eager", ema_decay=0.9), learner(engine, ema_decay=0.9)
    plain.start()
    other.start()
    for index, (inputs, target) in enumerate(batches()):
        if index == 3:
            inputs[0].fill_(float("nan"))
        expected, got = plain.step((inputs, target)), other.step((inputs, target))
        assert got.was_taken == expected.was_taken == (index != 3)
        torch.testing.assert_close(got.loss, expected.loss, equal_nan=True)
        torch.testing.assert_close(got.gradient_norm, expected.gradient_norm, equal_nan=True, rtol=1e-4, atol=1e-6)
    for name, tensor in plain.module.state_dict().items():
        torch.testing.assert_close(other.module.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)
    states = plain.optimizer.state_dict()["state"], other.optimizer.state_dict()["state"]
    torch.testing.assert_close(states[1], states[0], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(other.average.state_dict(), plain.average.state_dict(), rtol=1e-4, atol=1e-6)


def _loss_with_bad_gradient(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Finite, with a gradient of NaN: the square root is infinitely steep at 0."""
    return cross_entropy(outputs, target) + (outputs - outputs.detach()).sum().abs().sqrt()


@pytest.mark.parametrize("clip_norm", [1.0, None])
@pytest.mark.parametrize("engine", ["eager", "graph"])
def test_a_gradient_alone_that_is_not_finite_changes_nothing(engine: Engine, clip_norm: float | None) -> None:
    """Whether gradients are clipped or not; the loss alone would not tell."""
    bad = learner(engine, loss=_loss_with_bad_gradient, clip_norm=clip_norm)
    before = {name: tensor.clone() for name, tensor in bad.module.state_dict().items()}
    outcome = bad.step(batches()[0])
    assert torch.isfinite(outcome.loss)
    assert not outcome.was_taken
    for name, tensor in bad.module.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("engine", ENGINES)
def test_a_state_taken_over_goes_on_exactly(engine: Engine) -> None:
    """Weights and optimiser state of the middle, loaded into a new learner, lead to the bytes of the end."""
    whole, first = learner(engine), learner(engine)
    for batch in batches():
        whole.step(batch)
    for batch in batches()[:3]:
        first.step(batch)
    second = learner(engine)
    second.module.load_state_dict(first.module.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.schedule.load_state_dict(first.schedule.state_dict())
    for batch in batches()[3:]:
        second.step(batch)
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(second.module.state_dict()[name], tensor), name


BATCH_NORM = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4))


@pytest.mark.parametrize(
    ("engine", "module", "settings", "why"),
    [
        ("eager", dropout_net(), {}, ""),
        ("compiled", dropout_net(), {}, "dropout"),
        ("compiled", BATCH_NORM, {"optimizer": "sgd"}, ""),
        ("compiled", nn.LSTM(8, 4, num_layers=2, dropout=0.1), {}, "dropout"),
        ("compiled", nn.MultiheadAttention(8, 2, dropout=0.1), {}, "dropout"),
        ("graph", BATCH_NORM, {}, "statistics"),
        ("graph", NumberEmbedding(8, 2, 4), {}, ""),
        ("graph", net(), {}, ""),
        ("graph", net(), {"optimizer": "sgd"}, "AdamW"),
        ("graph", net(), {"clip_value": 1.0}, "AdamW"),
    ],
)
def test_what_an_engine_cannot_do_rules_it_out(
    engine: Engine, module: nn.Module, settings: dict[str, Any], why: str
) -> None:
    """Each reason is told in words; what the engine can do has none."""
    found = why_not(Candidate(threads=1, engine=engine), TrainConfig(**settings), module)
    assert why in found
    assert bool(found) == bool(why)


class DropsByItself(nn.Module):
    """Dropout that no part of the network shows."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 3)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.linear(dropout(features, 0.5, self.training))


class CountsByItself(nn.Module):
    """A statistic that no part of the network shows, beside a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 3)
        self.register_buffer("constant", torch.ones(8))
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        self.mean.lerp_(features.detach().mean(0), 0.1)
        return self.linear(features * self.constant)


@pytest.mark.parametrize(
    ("engine", "module", "why"),
    [("compiled", DropsByItself(), "random"), ("graph", CountsByItself(), "statistics")],
)
def test_what_a_users_network_does_by_itself_shows_in_its_first_batch(
    engine: Engine, module: nn.Module, why: str
) -> None:
    """Random numbers and statistics of its own rule an engine out at the first step, which changes nothing."""
    before, random = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    with pytest.raises(ConfigError, match=f"'{engine}'.*{why}"):
        learner(engine, module=module).step(batches()[0])
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in before.items())
    assert torch.equal(torch.get_rng_state(), random)


def test_an_engine_that_cannot_run_is_refused() -> None:
    """A plan from a file may name one: the error names it, before anything is trained."""
    with pytest.raises(ConfigError, match=r"'graph'.*AdamW"):
        learner("graph", optimizer="sgd")
