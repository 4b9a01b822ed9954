"""Clipping inside the fused step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from corelane.train.clipping import clip_at_step, clip_values, gradients_of, norm_of


@pytest.mark.parametrize("longest", [0.01, 1e6])
def test_it_is_clipping_before_the_step(longest: float) -> None:
    """Over several steps weights and norms are those of `clip_grad_norm_` and a step, clipped or not."""
    ours, theirs = nn.Linear(20, 30), nn.Linear(20, 30)
    theirs.load_state_dict(ours.state_dict())
    optimizers = [torch.optim.AdamW(net.parameters(), lr=0.01, fused=True) for net in (ours, theirs)]
    for step in range(5):
        values = torch.randn(8, 20, generator=torch.Generator().manual_seed(step)) * 10**step
        for net in (ours, theirs):
            net(values).square().mean().backward()
        norm = norm_of(gradients_of(ours.parameters()))
        clip_at_step(optimizers[0], norm, longest)
        assert norm == pytest.approx(float(nn.utils.clip_grad_norm_(theirs.parameters(), longest)), rel=1e-6)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=1e-5, atol=1e-7)


def test_a_parameter_without_gradient_is_left_out() -> None:
    """A part of the net that the loss does not reach has no gradient and stays as it is."""
    used, unused = nn.Linear(2, 2), nn.Linear(2, 2)
    parameters = [*used.parameters(), *unused.parameters()]
    optimizer = torch.optim.AdamW(parameters, fused=True)
    before = unused.weight.detach().clone()
    used(torch.ones(1, 2)).sum().backward()
    assert len(gradients_of(parameters)) == 2
    clip_at_step(optimizer, norm_of(gradients_of(parameters)), 1.0)
    optimizer.step()
    assert torch.equal(unused.weight, before)


def test_values_are_clipped_on_both_sides() -> None:
    """No entry is larger than the bound either way, and those within it stay."""
    gradients = [torch.tensor([-3.0, 0.5]), torch.tensor([2.0])]
    clip_values(gradients, 1.0)
    assert [gradient.tolist() for gradient in gradients] == [[-1.0, 0.5], [1.0]]
