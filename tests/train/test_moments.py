"""What Adam keeps for each weight, gathered once."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from corelane.train.config import TrainConfig
from corelane.train.fused import step_of
from corelane.train.moments import Moments
from corelane.train.optimizers import make_optimizer


@pytest.fixture
def net() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def test_counts_are_the_optimizers(net: nn.Linear) -> None:
    """Counting in the array counts in the state that a checkpoint takes, on top of what was counted before."""
    optimizer = make_optimizer(TrainConfig(), list(net.parameters()))
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    moments = Moments.of(optimizer, list(net.parameters()))
    moments.counts[:] += 1.0
    assert [state["step"].item() for state in optimizer.state_dict()["state"].values()] == [2.0, 2.0]


def test_a_loaded_state_is_another(net: nn.Linear) -> None:
    """After a load, for other parameters, and where someone else has gathered since, they are to be gathered anew."""
    optimizer = make_optimizer(TrainConfig(), list(net.parameters()))
    moments = Moments.of(optimizer, list(net.parameters()))
    assert moments.are_of(optimizer, list(net.parameters()))
    assert not moments.are_of(optimizer, [net.weight])
    assert not moments.are_of(optimizer, [net.bias, net.weight])
    Moments.of(optimizer, [net.bias])
    assert not moments.are_of(optimizer, list(net.parameters()))
    moments = Moments.of(optimizer, list(net.parameters()))
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert not moments.are_of(optimizer, list(net.parameters()))


def test_two_that_step_the_same_optimizer_count_together(net: nn.Linear) -> None:
    """A graph's step and, for a batch in pieces, the fused one take turns."""
    optimizer = make_optimizer(TrainConfig(), list(net.parameters()))
    steps = [step_of(optimizer), step_of(optimizer)]
    for number in range(6):
        net(torch.ones(1, 3)).sum().backward()
        steps[number % 2]()
    assert [state["step"].item() for state in optimizer.state.values()] == [6.0, 6.0]
