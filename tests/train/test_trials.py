"""Candidates made ready on a real network: what their losses are compared with, and what is shared."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from corelane.core.clock import SystemClock
from corelane.machine.optimizer import UnusableError
from corelane.train.batches import TensorBatch
from corelane.train.config import TrainConfig
from corelane.train.plan import Candidate
from corelane.train.trials import Trials
from tests.train.examples import dropout_net, picture_net


def batches(*shape: int, scale: float = 1.0, num_classes: int = 2) -> list[TensorBatch]:
    draws = torch.Generator().manual_seed(0)
    return [([scale * torch.randn(16, *shape, generator=draws)], torch.arange(16) % num_classes) for _ in range(3)]


def trials(module: nn.Module, some: list[TensorBatch], loss: Any = cross_entropy) -> Trials:
    return Trials(
        TrainConfig(batch_size=16),
        module,
        loss,
        batches=some,
        total_steps=1000,
        micro_batch_size=16,
        clock=SystemClock(),
        should_stop=lambda: False,
    )


def test_layouts_of_a_network_with_dropout_agree() -> None:
    """Another layout draws the noise in another order; that alone drops nobody."""
    made = trials(picture_net(), batches(1, 8, 8))
    assert made.prepare(Candidate(1), math.inf).agreement == 0.0
    assert made.prepare(Candidate(1, "channels_last"), math.inf).agreement <= 0.01


def test_a_loss_that_goes_another_way_does_not_agree() -> None:
    """A way of running that computes something else is further off than any tolerance, NaN included."""
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    factors = iter([1.0] * 4 + [1.05] * 4 + [1.0, 1.0, math.nan, 1.0])

    def drifting(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return cross_entropy(outputs, target) * next(factors)

    made = trials(net, batches(8, num_classes=3), drifting)
    assert made.prepare(Candidate(1), math.inf).agreement == 0.0
    assert made.prepare(Candidate(1, precision="bf16"), math.inf).agreement > 0.04
    assert math.isnan(made.prepare(Candidate(1, precision="bf32"), math.inf).agreement)


def test_thread_counts_share_a_copy() -> None:
    """Candidates that differ in threads only are trained on one copy, whose first steps are taken once."""
    made = trials(dropout_net(), batches(8, num_classes=3))
    one, two = made.prepare(Candidate(1), math.inf), made.prepare(Candidate(2), math.inf)
    before = torch.get_num_threads()
    assert one.time(2) > 0.0
    assert torch.get_num_threads() == 1
    assert two.time(2) > 0.0
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
    assert (one.startup_s, one.agreement) == (two.startup_s, two.agreement) == (0.0, 0.0)


def test_first_losses_that_are_not_finite_end_the_search() -> None:
    """There is nothing to compare with."""
    with pytest.raises(UnusableError, match="not finite"):
        trials(dropout_net(), batches(8, scale=math.inf, num_classes=3)).prepare(Candidate(1), math.inf)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the first may get lost in a callback
def test_an_engine_that_takes_too_long_is_given_up() -> None:
    """What is not ready in time cannot be used; the eager network is not touched by that."""
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    made = trials(net, batches(8, num_classes=3))
    made.prepare(Candidate(1), math.inf)
    with pytest.raises(UnusableError, match=r"not ready within 0\.01 s"):
        made.prepare(Candidate(1, engine="compiled"), 0.01)
    assert made.prepare(Candidate(1, precision="bf16"), math.inf).time(1) > 0.0
