"""Quality, added up batch by batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from corelane.train.losses import BinaryCrossEntropy, CrossEntropy, SquaredError
from corelane.train.metrics import (
    MAX_PAIRS,
    BinaryScores,
    ClassificationScores,
    Evaluation,
    MultiLabelScores,
    RegressionScores,
)


def classify(predicted: list[int], actual: list[int], num_classes: int, cuts: int = 1) -> Evaluation:
    scores = ClassificationScores(num_classes, CrossEntropy(num_classes))
    outputs = torch.nn.functional.one_hot(torch.tensor(predicted), num_classes).float()
    for part in np.array_split(np.arange(len(actual)), cuts):
        scores.update(outputs[part], torch.tensor(actual)[part])
    return scores.result()


def test_classification_by_hand() -> None:
    """Accuracy, macro-F1 and the confusion counts (row actual, column predicted) of six rows."""
    result = classify([0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 0, 1], 2)
    assert result.confusion is not None
    assert result.confusion.tolist() == [[2, 1], [1, 2]]
    assert result.qualities == pytest.approx({"accuracy": 4 / 6, "macro_f1": 2 / 3})
    assert result.num_rows == 6


def test_a_class_that_does_not_occur_does_not_count() -> None:
    """A class absent from targets and predictions has no F1; one only predicted has an F1 of 0."""
    assert classify([0, 1, 1], [0, 1, 1], 4).qualities["macro_f1"] == 1.0
    assert classify([0, 1, 2], [0, 1, 1], 4).qualities["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_batches_do_not_matter() -> None:
    """Cut differently, the same rows give the same evaluation; the loss is the mean over rows, not over batches."""
    random = np.random.default_rng(0)
    predicted, actual = random.integers(0, 3, (2, 50)).tolist()
    whole, cut = classify(predicted, actual, 3), classify(predicted, actual, 3, cuts=4)
    assert whole.qualities == cut.qualities
    assert whole.loss == pytest.approx(cut.loss)


def test_regression_is_in_the_targets_unit() -> None:
    """Errors of 2 and 4 standardised at a deviation of 10 are 20 and 40; R2 does not depend on the unit."""
    scores = RegressionScores(mean=100.0, std=10.0, loss=SquaredError())
    scores.update(torch.tensor([[2.0], [-4.0]]), torch.tensor([0.0, 0.0]))
    scores.update(torch.tensor([[3.0]]), torch.tensor([3.0]))
    result = scores.result()
    assert result.qualities == pytest.approx({"rmse": 10 * math.sqrt(20 / 3), "mae": 20.0, "r2": 1 - 20 / 6})
    assert result.loss == pytest.approx(20 / 3)
    assert result.pairs == ([100.0, 100.0, 130.0], [120.0, 60.0, 130.0])


def test_r2_of_a_constant_target() -> None:
    """Without variance to explain, R2 is 1 for perfect predictions and 0 otherwise."""
    for output, expected in ((0.0, 1.0), (1.0, 0.0)):
        scores = RegressionScores(0.0, 1.0, SquaredError())
        scores.update(torch.full((3, 1), output), torch.zeros(3))
        assert scores.result().qualities["r2"] == expected


def test_pairs_are_bounded() -> None:
    """However many rows, the plot gets a bounded number of points; the figures are of all rows."""
    scores = RegressionScores(0.0, 1.0, SquaredError())
    for _ in range(3):
        scores.update(torch.zeros(MAX_PAIRS - 1, 1), torch.zeros(MAX_PAIRS - 1))
    result = scores.result()
    assert result.pairs is not None
    assert [len(values) for values in result.pairs] == [MAX_PAIRS, MAX_PAIRS]
    assert result.num_rows == 3 * (MAX_PAIRS - 1)


def test_binary_by_hand() -> None:
    """Qualities of the positive label, the confusion counts, and the curve; the loss is the log loss."""
    scores = BinaryScores(BinaryCrossEntropy(1))
    outputs, actual = torch.tensor([[2.0], [-1.0], [1.0], [-3.0]]), torch.tensor([1.0, 1.0, 0.0, 0.0])
    for part in (slice(0, 3), slice(3, 4)):
        scores.update(outputs[part], actual[part])
    result = scores.result()
    assert set(result.qualities) == {"accuracy", "f1", "auroc", "average_precision", "brier"}
    assert (result.qualities["accuracy"], result.qualities["f1"], result.qualities["auroc"]) == (0.5, 0.5, 0.75)
    assert result.confusion is not None
    assert result.confusion.tolist() == [[1, 1], [1, 1]]
    assert result.roc == ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
    assert result.loss == pytest.approx(float(np.mean(np.logaddexp(0.0, [-2.0, 1.0, 1.0, -3.0]))))


def test_multi_label_by_hand() -> None:
    """Whole rows, pairs and labels; the labels one by one for the report."""
    scores = MultiLabelScores(2, BinaryCrossEntropy(2))
    scores.update(torch.tensor([[2.0, -1.0], [-1.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    result = scores.result()
    assert result.qualities == pytest.approx(
        {"subset_accuracy": 0.5, "micro_f1": 0.8, "macro_f1": (2 / 3 + 1) / 2, "mean_auroc": 1.0}
    )
    assert result.labels is not None
    assert result.labels.num_rows.tolist() == [2, 1]
    assert result.labels.qualities[:, 2] == pytest.approx([2 / 3, 1.0])
    assert result.labels.auroc.tolist() == pytest.approx([np.nan, 1.0], nan_ok=True)


def test_names_carry_the_part() -> None:
    """Loss and qualities are named after the part of the data."""
    assert Evaluation(0.5, {"accuracy": 0.9}, 10).named("test") == {"test_loss": 0.5, "test_accuracy": 0.9}
