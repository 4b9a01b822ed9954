"""The report of a run."""

from __future__ import annotations

from pathlib import Path

from tests.train.examples import binary, classification, dropout_net, multi_label, regression, run


def text_of(directory: Path) -> str:
    return (directory / "report.html").read_text()


def test_a_classification_shows_its_confusion(tmp_path: Path) -> None:
    """Curves, the confusion matrix of the test part with the labels, the classes, and what took the time."""
    run(tmp_path, classification(), dropout_net())
    text = text_of(tmp_path)
    for part in (
        "Loss",
        "Learning rate",
        "Confusion matrix",
        "Classes",
        "What took the time",
        "optimiser",
        "The plan",
        "verdict",
    ):
        assert part in text
    for label in ("ant", "bee", "cat"):
        assert label in text
    assert "looked at once" in text


def test_two_labels_have_a_roc_curve(tmp_path: Path) -> None:
    """Beside their confusion, with the label that is positive."""
    run(tmp_path, binary(), dropout_net(1))
    text = text_of(tmp_path)
    for part in ("binary of target", "Confusion matrix", "ROC curve", "yes is positive; area 0.", "test AUROC"):
        assert part in text


def test_several_labels_a_row_have_a_table(tmp_path: Path) -> None:
    """Each label with its AUROC, and no confusion matrix."""
    run(tmp_path, multi_label(), dropout_net())
    text = text_of(tmp_path)
    for part in ("multi-label of a, b, c", "Labels", "rows that have it", "AUROC", "Macro F1 on the validation part"):
        assert part in text
    assert "Confusion" not in text


def test_a_regression_shows_its_residuals(tmp_path: Path) -> None:
    """Predicted over actual and the residuals, no confusion matrix."""
    run(tmp_path, regression(), dropout_net(1))
    text = text_of(tmp_path)
    assert "Predicted over actual" in text
    assert "Residuals" in text
    assert "Confusion" not in text


def test_a_run_shorter_than_the_log_interval_has_curves(tmp_path: Path) -> None:
    """Without a single step entry the loss curve is drawn from the epochs."""
    run(tmp_path, classification(), dropout_net(), log_interval=1000)
    assert "training" in text_of(tmp_path)
    assert "Learning rate" not in text_of(tmp_path)
