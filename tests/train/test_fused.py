"""The fused kernels called directly."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from corelane.train.config import TrainConfig
from corelane.train.fused import FusedStep, step_of
from corelane.train.optimizers import make_optimizer


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 4), nn.Linear(4, 4))


@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_it_is_the_optimizers_own_step(name: str) -> None:
    """With a scale, changing rates and a part without gradients: the bytes of weights and state are the optimiser's."""
    nets = [net(), net()]
    config = TrainConfig.model_validate({"optimizer": name, "weight_decay": 0.1})
    optimizers = [make_optimizer(config, list(one.parameters())) for one in nets]
    steps = [optimizers[0].step, step_of(optimizers[1])]
    assert isinstance(steps[1], FusedStep)
    for number in range(6):
        values = torch.randn(8, 6, generator=torch.Generator().manual_seed(number))
        for one, optimizer, step in zip(nets, optimizers, steps, strict=True):
            one[:2](values).square().mean().backward()
            optimizer.grad_scale = torch.tensor(1.0 + number)  # type: ignore[attr-defined]
            optimizer.param_groups[0]["lr"] = 0.01 / (1 + number)
            step()
            optimizer.zero_grad()
    for ours, theirs in zip(nets[1].parameters(), nets[0].parameters(), strict=True):
        assert torch.equal(ours, theirs)
    states = [optimizer.state_dict()["state"] for optimizer in optimizers]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key][part], states[1][key][part]) for key in states[0] for part in states[0][key])


@pytest.mark.parametrize("name", ["sgd", "adagrad"])
def test_others_take_their_own_step(name: str) -> None:
    """An optimiser without such a kernel here is asked itself."""
    optimizer = make_optimizer(TrainConfig.model_validate({"optimizer": name}), list(net().parameters()))
    assert step_of(optimizer) == optimizer.step
