"""Scores summed over batches equal the textbook formulas over all rows at once."""

import numpy as np
import pytest

from corelane.model.scores import ClassificationScores, RegressionScores


def test_classification_scores_equal_the_formulas() -> None:
    """Accuracy counts an unknown label as wrong; log loss is the mean over the known ones."""
    labels = np.array(["a", "b", "c"], dtype=object)
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3], [1.0, 0.0, 0.0]], np.float32)
    truth = np.array([0, 1, -1, 0])
    scores = ClassificationScores(labels)
    for rows in (slice(0, 3), slice(3, 4)):
        answers = {"label": labels[probabilities[rows].argmax(axis=1)], "probabilities": probabilities[rows]}
        scores.update(answers, truth[rows])
    expected_loss = -(np.log(0.7) + np.log(0.3) + np.log(1.0)) / 3
    assert scores.compute() == pytest.approx({"accuracy": 0.5, "log_loss": expected_loss}, rel=1e-6)


def test_an_impossible_class_has_a_finite_loss() -> None:
    """A probability of exactly 0 for the truth is large, not infinite: the sum stays usable."""
    scores = ClassificationScores(np.array([0, 1]))
    scores.update({"label": np.array([0]), "probabilities": np.array([[1.0, 0.0]], np.float32)}, np.array([1]))
    assert 80 < scores.compute()["log_loss"] < 100


def test_only_unknown_labels_have_no_loss() -> None:
    """Where no truth is known there is an accuracy of zero and no loss."""
    scores = ClassificationScores(np.array([0, 1]))
    scores.update({"label": np.array([0]), "probabilities": np.array([[1.0, 0.0]], np.float32)}, np.array([-1]))
    assert scores.compute() == {"accuracy": 0.0}


def test_regression_scores_equal_the_formulas() -> None:
    """Errors are in the target's unit, and R2 compares with the mean of the rows scored."""
    generator = np.random.default_rng(0)
    mean, std = 1e6, 3.0
    truth = generator.normal(size=200)
    values = truth * std + mean + generator.normal(size=200)
    scores = RegressionScores(mean, std)
    for rows in (slice(0, 150), slice(150, 200)):
        scores.update({"value": values[rows]}, truth[rows])
    actual = truth * std + mean
    error = values - actual
    expected = {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        "r2": float(1 - np.sum(error**2) / np.sum((actual - actual.mean()) ** 2)),
    }
    assert scores.compute() == pytest.approx(expected, rel=1e-6)


def test_a_constant_truth_has_no_r2() -> None:
    """R2 is undefined where the truth does not vary, and so it is left out."""
    scores = RegressionScores(0.0, 1.0)
    scores.update({"value": np.array([1.0, 3.0])}, np.array([2.0, 2.0]))
    assert scores.compute() == {"rmse": 1.0, "mae": 1.0}
