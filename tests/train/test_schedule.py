"""The learning rate over a run, and its state."""

from __future__ import annotations

import pytest
import torch

from corelane.core.errors import StateError
from corelane.train.config import TrainConfig
from corelane.train.schedule import Schedule, rate_at


def rates(total_steps: int = 100, **settings: object) -> list[float]:
    config = TrainConfig(learning_rate=0.1, **settings)
    return [rate_at(config, step, total_steps) for step in range(total_steps)]


def test_constant_stays() -> None:
    """`constant` has one rate."""
    assert set(rates(scheduler="constant")) == {0.1}


def test_cosine_rises_in_the_warm_up_and_falls_to_nothing() -> None:
    """`cosine` rises in equal steps to the highest rate, then falls along a cosine to almost zero."""
    values = rates(scheduler="cosine", warmup_fraction=0.1)
    assert values[:10] == pytest.approx([0.01 * step for step in range(1, 11)])
    assert values[10] == pytest.approx(0.1)
    assert values[55] == pytest.approx(0.05)
    assert values[10:] == sorted(values[10:], reverse=True)
    assert 0 < values[-1] < 0.0001


def test_one_cycle_starts_and_ends_low() -> None:
    """`one_cycle` goes from 1/25 of the highest rate up to it, and down to 1/250,000."""
    values = rates(scheduler="one_cycle", warmup_fraction=0.3)
    assert values[0] == pytest.approx(0.1 / 25)
    assert max(values) == values[30] == pytest.approx(0.1)
    assert values[-1] == pytest.approx(0.1 / 250_000)


@pytest.mark.parametrize("scheduler", ["constant", "cosine", "one_cycle"])
@pytest.mark.parametrize("total_steps", [1, 2, 3])
def test_the_shortest_runs_have_a_rate(scheduler: str, total_steps: int) -> None:
    """One to three steps, with hardly a warm-up: every rate is usable."""
    for fraction in (0.0, 0.5, 0.9):
        values = rates(total_steps, scheduler=scheduler, warmup_fraction=fraction)
        assert all(0 <= value <= 0.1 + 1e-12 for value in values)
        assert max(values) > 0


def test_it_writes_the_optimisers_rate_and_resumes() -> None:
    """Each step writes the rate of the coming one; a restored schedule goes on where the saved one was."""
    config = TrainConfig()
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))])
    schedule = Schedule(optimizer, config, 50)
    for _ in range(20):
        schedule.step()
    state, rate = schedule.state_dict(), optimizer.param_groups[0]["lr"]
    assert rate == schedule.learning_rate == schedule.rate_of(20)

    restored = Schedule(optimizer, config, 50)
    assert restored.learning_rate != rate
    restored.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == rate
    with pytest.raises(StateError, match="version"):
        restored.load_state_dict({**state, "version": 99})
