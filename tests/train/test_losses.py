"""What is minimised, by task."""

from __future__ import annotations

import math

import pytest
import torch

from corelane.train.losses import loss_for


def test_classification_is_cross_entropy() -> None:
    """Equal logits over four classes cost log 4."""
    loss = loss_for("classification")(torch.zeros(5, 4), torch.tensor([0, 1, 2, 3, 0]))
    assert loss.item() == pytest.approx(math.log(4))


def test_regression_is_the_mean_squared_error() -> None:
    """One output per row, compared with the target row by row and not crosswise."""
    loss = loss_for("regression")(torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 5.0]))
    assert loss.item() == pytest.approx(4.5)
