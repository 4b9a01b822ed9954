"""`model.nets.tabm`: members in training, their mean in evaluation, and what it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from corelane.model.nets.mlp import MLP
from corelane.model.nets.tabm import COMBINE, TabM, mean, sigmoid_mean, softmax_mean


def net(num_outputs: int = 3, *, task: str = "multi_class", numbers: range = range(4), embedding: int = 5) -> TabM:
    return TabM(
        6,
        numbers,
        (8, 7),
        num_outputs,
        num_members=4,
        embedding=embedding,
        num_bins=10,
        combine=COMBINE[task],
    )


@pytest.mark.parametrize(("numbers", "embedding"), [(range(4), 5), (range(6), 5), (range(0), 5), (range(4), 0)])
def test_members_answer_in_training_and_their_mean_in_evaluation(numbers: range, embedding: int) -> None:
    """[n, members, outputs] in training mode, [n, outputs] in evaluation mode, with or without embedded numbers."""
    module, x = net(numbers=numbers, embedding=embedding), torch.randn(2, 6)
    members = module(x)
    assert members.shape == (2, 4, 3)
    torch.testing.assert_close(module.eval()(x).softmax(1), members.softmax(2).mean(1))


@pytest.mark.parametrize(
    ("combine", "answer"),
    [(softmax_mean, lambda logits: logits.softmax(-1)), (sigmoid_mean, torch.sigmoid), (mean, lambda value: value)],
)
def test_the_combined_answer_is_the_mean_of_the_answers(combine: object, answer: object) -> None:
    """Probabilities are averaged, not logits; extreme logits give no infinity or NaN."""
    members = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0)) * 3
    torch.testing.assert_close(answer(combine(members)), answer(members).mean(1))  # type: ignore[operator]
    extreme = combine(torch.tensor([[[300.0, -300.0], [200.0, 0.0]]]))  # type: ignore[operator]
    assert bool(extreme.isfinite().all())


def test_a_member_is_a_perceptron_on_scaled_features() -> None:
    """The first layer, computed with scaled weights, is that of scaled inputs."""
    module, x = net(embedding=0), torch.randn(5, 6)
    member = MLP(6, (8, 7), 3)
    state = {
        "layers.0.weight": module.first.weight,
        "layers.0.bias": module.first.bias,
        "layers.2.weight": module.layers[0].weight,
        "layers.2.bias": module.layers[0].bias,
        "layers.4.weight": module.weight[1].t(),
        "layers.4.bias": module.bias[1, 0],
    }
    member.load_state_dict(state)
    torch.testing.assert_close(module(x)[:, 1], member(x * module.scale[1]))


def test_numbers_are_found_among_other_features() -> None:
    """Features that are not embedded pass as they are, wherever the numbers lie."""
    module = TabM(3, [1], (4,), 1, num_members=2, embedding=3, num_bins=2, combine=mean)
    embedded = module._embed([torch.tensor([[7.0, 0.5, 9.0]])])
    assert embedded.shape == (1, 5)
    assert embedded[0, 3:].tolist() == [7.0, 9.0]


def _trained(module: nn.Module, x: Tensor, y: Tensor) -> float:
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    module.train()
    for _ in range(150):
        outputs = module(x)
        outputs = outputs if outputs.ndim == 3 else outputs[:, None]
        mse_loss(outputs[:, :, 0], y[:, None].expand(outputs.shape[:2])).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        return float(mse_loss(module.eval()(x)[:, 0], y))


def test_steps_in_the_data_are_learnt_better_than_by_a_perceptron() -> None:
    """Where the answer jumps with a number, bins at its quantiles beat linear inputs: what the embedding is for."""
    torch.manual_seed(0)
    x = torch.rand(512, 6) * 2 - 1
    y = ((x[:, 0] * 8).floor() % 2) + ((x[:, 1] * 5).floor() % 2) - 1.0
    ensemble = TabM(6, range(6), (32, 32), 1, num_members=4, embedding=8, num_bins=40, combine=mean)
    ensemble.fit_inputs({"features": x.numpy()})
    assert _trained(ensemble, x, y) < 0.5 * _trained(MLP(6, (32, 32), 1), x, y)
