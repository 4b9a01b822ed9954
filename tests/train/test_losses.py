"""What is minimised, by task: equal to the formulas in float64, over batches cut in any way, and compilable."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from corelane.core.errors import ConfigError
from corelane.core.types import Array, Task
from corelane.data.target import TargetEncoder
from corelane.train.config import TrainConfig
from corelane.train.losses import Loss, class_weights, label_weights, loss_for, plain_loss

N = 12
CLASSES = TargetEncoder("multi_class", ("y",), labels=("a", "b", "c"), counts=(6, 3, 1), num_rows=10)
TWO = TargetEncoder("binary", ("y",), labels=("no", "yes"), counts=(9, 1), num_rows=10)
SEVERAL = TargetEncoder("multi_label", ("p", "q"), labels=("p", "q"), counts=(5, 2), num_rows=10)
VALUE = TargetEncoder("regression", ("y",))

WEIGHTED: dict[Task, Any] = {
    "multi_class": {"a": 2.0, "c": 5.0},
    "binary": {"yes": 4.0},
    "multi_label": {"q": 3.0},
}


def built(target: TargetEncoder, **settings: Any) -> Loss:
    return loss_for(target, TrainConfig(**settings))


def batch(target: TargetEncoder, num_members: int = 0) -> tuple[Tensor, Tensor]:
    """Outputs and encoded targets of N rows."""
    random = np.random.default_rng(0)
    shape = (N, num_members, target.num_outputs) if num_members else (N, target.num_outputs)
    outputs = torch.from_numpy(random.normal(scale=2.0, size=shape).astype(np.float32))
    if target.task == "multi_class":
        return outputs, torch.from_numpy(random.integers(0, 3, N))
    if target.task == "regression":
        return outputs, torch.from_numpy(random.normal(size=N).astype(np.float32))
    return outputs, torch.from_numpy(random.integers(0, 2, (N, *target.shape)).astype(np.float32))


def by_hand(target: TargetEncoder, outputs: Tensor, wanted: Tensor, smoothing: float, weights: Any) -> float:
    """The loss of the definitions, in float64."""
    logits, t = outputs.numpy().astype(np.float64), wanted.numpy().astype(np.float64)
    if target.task == "regression":
        return float(np.mean((logits[:, 0] - t) ** 2))
    if target.task == "multi_class":
        soft = np.eye(3)[wanted.numpy()]
        own = np.ones(N) if weights is None else soft @ class_weights(target, weights)
        soft = soft * (1 - smoothing) + smoothing / 3
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return float(np.mean(own * -(soft * np.log(chances)).sum(axis=1)))
    t = t.reshape(logits.shape)
    own = np.ones(t.shape)
    if weights is not None:
        without, having = (
            label_weights(target, weights) if target.task == "multi_label" else class_weights(target, weights)
        )
        own = np.where(t > 0, having, without)
    t = t * (1 - smoothing) + smoothing / 2
    chances = 1 / (1 + np.exp(-logits))
    return float(np.mean(own * -(t * np.log(chances) + (1 - t) * np.log(1 - chances))))


def test_plain_losses_by_hand() -> None:
    """Equal logits over four classes cost log 4, a logit of 0 costs log 2; errors are compared row by row."""
    four = TargetEncoder("multi_class", ("y",), labels=("a", "b", "c", "d"))
    assert plain_loss(four)(torch.zeros(5, 4), torch.tensor([0, 1, 2, 3, 0])).item() == pytest.approx(math.log(4))
    assert plain_loss(TWO)(torch.zeros(3, 1), torch.tensor([0.0, 1.0, 1.0])).item() == pytest.approx(math.log(2))
    assert plain_loss(SEVERAL)(torch.zeros(3, 2), torch.ones(3, 2)).item() == pytest.approx(math.log(2))
    assert plain_loss(VALUE)(torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 5.0])).item() == pytest.approx(4.5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighting", [None, "balanced", "named"])
@pytest.mark.parametrize("target", [CLASSES, TWO, SEVERAL], ids=lambda target: target.task)
def test_equals_the_definition(target: TargetEncoder, weighting: str | None, smoothing: float) -> None:
    """Smoothed targets and weighted rows, each and together, as the docstrings define them."""
    weights = WEIGHTED[target.task] if weighting == "named" else weighting
    outputs, wanted = batch(target)
    loss = built(target, label_smoothing=smoothing, class_weights=weights)
    assert loss(outputs, wanted).item() == pytest.approx(by_hand(target, outputs, wanted, smoothing, weights), rel=1e-5)


@pytest.mark.parametrize("target", [CLASSES, TWO, SEVERAL, VALUE], ids=lambda target: target.task)
def test_micro_batches_compose(target: TargetEncoder) -> None:
    """The loss of a batch is that of its pieces by their share of the rows, gradients too, weighted rows or not."""
    settings = {} if target is VALUE else {"label_smoothing": 0.1, "class_weights": "balanced"}
    loss, (outputs, wanted) = built(target, **settings), batch(target)
    whole = outputs.clone().requires_grad_()
    loss(whole, wanted).backward()
    pieces = outputs.clone().requires_grad_()
    for rows in (slice(0, 5), slice(5, 6), slice(6, N)):
        (loss(pieces[rows], wanted[rows]) * (len(wanted[rows]) / N)).backward()
    assert whole.grad is not None
    assert pieces.grad is not None
    assert torch.allclose(whole.grad, pieces.grad, atol=1e-7)


@pytest.mark.parametrize("target", [CLASSES, TWO, SEVERAL, VALUE], ids=lambda target: target.task)
def test_an_ensemble_costs_the_mean_of_its_members(target: TargetEncoder) -> None:
    """Outputs [n, m, k]: each member's own loss, not that of their mean."""
    settings = {} if target is VALUE else {"label_smoothing": 0.1, "class_weights": "balanced"}
    loss, (outputs, wanted) = built(target, **settings), batch(target, num_members=4)
    members = [loss(outputs[:, member], wanted).item() for member in range(4)]
    assert loss(outputs, wanted).item() == pytest.approx(np.mean(members), rel=1e-6)


def test_mixed_targets() -> None:
    """A row that is 30 % of one class and 70 % of another costs so much of each, without weights."""
    outputs, _ = batch(CLASSES)
    shares = torch.tensor([0.3, 0.0, 0.7]).expand(N, 3)
    first, last = torch.zeros(N, dtype=torch.int64), torch.full((N,), 2)
    loss = built(CLASSES)
    assert loss(outputs, shares).item() == pytest.approx(
        0.3 * loss(outputs, first).item() + 0.7 * loss(outputs, last).item(), rel=1e-5
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("target", [CLASSES, TWO, SEVERAL], ids=lambda target: target.task)
def test_mixed_targets_keep_the_weight_of_each_part(target: TargetEncoder, smoothing: float) -> None:
    """A row that is 30 % of one and 70 % of another costs so much of each, weighted: mixing rows leaves the classes in
    balance.
    """
    outputs, one = batch(target)
    other = one.flip(0)
    loss = built(target, label_smoothing=smoothing, class_weights="balanced")
    parts = [(0.3, one), (0.7, other)]
    soft = sum(
        share * (one_hot(labels, 3).float() if labels.ndim == 1 and target is CLASSES else labels)
        for share, labels in parts
    )
    assert isinstance(soft, Tensor)
    expected = sum(share * loss(outputs, labels).item() for share, labels in parts)
    assert loss(outputs, soft).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("target", [CLASSES, TWO, SEVERAL, VALUE], ids=lambda target: target.task)
def test_compiles_as_one_graph(target: TargetEncoder) -> None:
    """No graph break and no read of a value, forward and backward, for one network and for an ensemble."""
    settings = {} if target is VALUE else {"label_smoothing": 0.1, "class_weights": "balanced"}
    loss = built(target, **settings)
    torch.compiler.reset()  # what other tests compiled in this process counts against the limit
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    for num_members in (0, 3):
        outputs, wanted = batch(target, num_members)
        outputs.requires_grad_()
        found = compiled(outputs, wanted)
        found.backward()
        assert found.item() == pytest.approx(loss(outputs, wanted).item(), rel=1e-6)


class TestWeights:
    @pytest.mark.parametrize("wanted", ["balanced", {"a": 2.0, "c": 5.0}])
    def test_their_mean_over_the_training_rows_is_one(self, wanted: Any) -> None:
        """So that the learning rate means the same."""
        assert class_weights(CLASSES, wanted) @ np.array(CLASSES.counts) / CLASSES.num_rows == pytest.approx(1.0)

    def test_balanced_classes_count_the_same(self) -> None:
        """A class of a tenth of the rows has as much of the loss as one of six tenths."""
        shares: Array = class_weights(CLASSES, "balanced") * np.array(CLASSES.counts)
        assert shares == pytest.approx(np.full(3, 10 / 3))

    def test_named_weights_are_ratios(self) -> None:
        """What is not named counts as 1 beside them."""
        weights = class_weights(CLASSES, {"c": 5.0})
        assert weights[2] / weights[0] == pytest.approx(5.0)
        assert weights[0] == weights[1]

    @pytest.mark.parametrize("wanted", ["balanced", {"q": 3.0}])
    def test_labels_are_weighted_one_by_one(self, wanted: Any) -> None:
        """The mean is 1 for each label; balanced, rows with it count as much as rows without."""
        without, having = label_weights(SEVERAL, wanted)
        counts = np.array(SEVERAL.counts)
        assert (without * (10 - counts) + having * counts) / 10 == pytest.approx(np.ones(2))
        if wanted == "balanced":
            assert having * counts == pytest.approx(without * (10 - counts))
        else:
            assert having / without == pytest.approx([1.0, 3.0])

    def test_unknown_labels_are_refused(self) -> None:
        """With the nearest one that there is."""
        with pytest.raises(ConfigError, match="must name labels of y, got 'yess'; did you mean 'yes'"):
            built(TWO, class_weights={"yess": 2.0})

    @pytest.mark.parametrize("settings", [{"label_smoothing": 0.1}, {"class_weights": "balanced"}])
    def test_a_regression_has_no_labels(self, settings: dict[str, Any]) -> None:
        """What would have no effect is refused."""
        with pytest.raises(ConfigError, match=f"train.{next(iter(settings))} must be left out for a regression"):
            built(VALUE, **settings)


def test_a_network_with_other_outputs_is_refused() -> None:
    """In words, with the way out for a network that has an output for each of two labels."""
    with pytest.raises(ConfigError, match=r"must give 1 outputs .* got 2; .* data\.task: multi_class"):
        plain_loss(TWO)(torch.zeros(3, 2), torch.zeros(3))
