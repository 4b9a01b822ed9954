"""Scores added up over batches equal the textbook formulas over all rows at once."""

import numpy as np
import pytest

from corelane.model.scores import ConfusionSums, ErrorSums, class_qualities


def test_classification_equals_the_formulas() -> None:
    """Accuracy and macro-F1 of six rows by hand, added in two batches."""
    actual, predicted = np.array([0, 0, 1, 1, 0, 1]), np.array([0, 0, 1, 1, 1, 0])
    sums = ConfusionSums(2)
    for rows in (slice(0, 4), slice(4, 6)):
        sums.add(actual[rows], predicted[rows])
    assert sums.counts.tolist() == [[2, 1], [1, 2]]
    assert sums.qualities() == pytest.approx({"accuracy": 4 / 6, "macro_f1": 2 / 3})


def test_an_unknown_label_counts_as_wrong() -> None:
    """A row whose class the model does not know lowers the accuracy and enters no cell."""
    sums = ConfusionSums(2)
    sums.add(np.array([0, -1]), np.array([0, 1]))
    assert sums.qualities()["accuracy"] == 0.5
    assert sums.counts.sum() == 1


def test_only_unknown_labels_score_zero() -> None:
    """Where no truth is known, nothing is right, and nothing is undefined."""
    sums = ConfusionSums(2)
    sums.add(np.array([-1]), np.array([1]))
    assert sums.qualities() == {"accuracy": 0.0, "macro_f1": 0.0}


def test_a_class_that_does_not_occur_has_no_qualities() -> None:
    """Absent from targets and predictions: NaN, and so left out of the mean."""
    qualities = class_qualities(np.array([[1, 0], [0, 0]]))
    assert qualities[0].tolist() == [1, 1, 1]
    assert np.isnan(qualities[1]).all()


def test_regression_equals_the_formulas() -> None:
    """Errors are in the target's unit; R2 compares with the mean of the rows scored, far from zero too."""
    generator = np.random.default_rng(0)
    mean, std = 1e6, 3.0
    actual = generator.normal(size=200)
    predicted = actual + generator.normal(size=200) / 3
    sums = ErrorSums(mean, std)
    for rows in (slice(0, 150), slice(150, 200)):
        sums.add(actual[rows], predicted[rows])
    truth, values = actual * std + mean, predicted * std + mean
    expected = {
        "rmse": float(np.sqrt(np.mean((values - truth) ** 2))),
        "mae": float(np.mean(np.abs(values - truth))),
        "r2": float(1 - np.sum((values - truth) ** 2) / np.sum((truth - truth.mean()) ** 2)),
    }
    assert sums.qualities() == pytest.approx(expected, rel=1e-6)
