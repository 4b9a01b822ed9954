"""The configured optimisers, against torch's plain ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from corelane.train.config import TrainConfig
from corelane.train.optimizers import make_optimizer

PLAIN: dict[str, tuple[Any, dict[str, Any]]] = {
    "adamw": (torch.optim.AdamW, {}),
    "adam": (torch.optim.Adam, {}),
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adagrad": (torch.optim.Adagrad, {}),
}


@pytest.mark.parametrize("name", PLAIN)
def test_fused_is_plain(name: str) -> None:
    """Each goes where torch's unfused optimiser with the same settings goes, up to rounding."""
    ours, theirs = nn.Linear(6, 4), nn.Linear(6, 4)
    theirs.load_state_dict(ours.state_dict())
    made_by, options = PLAIN[name]
    config = TrainConfig.model_validate({"optimizer": name, "learning_rate": 0.05, "weight_decay": 0.1})
    optimizers = [
        make_optimizer(config, list(ours.parameters())),
        made_by(theirs.parameters(), lr=0.05, weight_decay=0.1, foreach=False, **options),
    ]
    for step in range(10):
        values = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        for net, optimizer in zip((ours, theirs), optimizers, strict=True):
            net(values).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-4, atol=1e-6)


def test_sgd_without_momentum_has_nothing_to_look_ahead_along() -> None:
    """A momentum of 0 is plain SGD, and no contradiction to the default of looking ahead."""
    config = TrainConfig(optimizer="sgd", momentum=0.0)
    optimizer = make_optimizer(config, list(nn.Linear(2, 2).parameters()))
    assert optimizer.param_groups[0]["nesterov"] is False
