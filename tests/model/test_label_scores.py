"""Qualities of logits of labels equal the textbook formulas over all rows at once."""

from __future__ import annotations

import numpy as np
import pytest

from corelane.core.types import Array
from corelane.model.label_scores import BinarySums, LabelSums, logits_of
from corelane.model.score_histogram import LIMIT, MAX_POINTS, ScoreHistogram


def rows(num_rows: int = 500, seed: int = 0) -> tuple[Array, Array]:
    """Targets 0 or 1, and logits that tell something of them."""
    random = np.random.default_rng(seed)
    actual = (random.random(num_rows) < 0.3).astype(np.float32)
    return actual, (2 * actual - 1 + 2 * random.normal(size=num_rows)).astype(np.float32)


def auroc(actual: Array, logits: Array) -> float:
    """The share of pairs in the right order, ties half."""
    positive, negative = logits[actual > 0][:, None], logits[actual == 0][None]
    return float(np.mean((positive > negative) + (positive == negative) / 2))


def average_precision(actual: Array, logits: Array) -> float:
    """The mean over positive rows, without ties, of the precision at their own logit."""
    ranked = actual[np.argsort(-logits)]
    precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    return float(precision[ranked > 0].mean())


class TestBinary:
    def test_equals_the_formulas(self) -> None:
        """In three batches; AUROC and average precision within what the bins allow."""
        actual, logits = rows()
        sums = BinarySums()
        for part in np.array_split(np.arange(500), 3):
            sums.add(actual[part], logits[part])
        chances = 1 / (1 + np.exp(-logits.astype(np.float64)))
        given = logits > 0
        hits = int((given & (actual > 0)).sum())
        found = sums.qualities()
        assert found == pytest.approx(
            {
                "accuracy": np.mean(given == (actual > 0)),
                "f1": 2 * hits / (given.sum() + actual.sum()),
                "auroc": auroc(actual, logits),
                "average_precision": average_precision(actual, logits),
                "log_loss": -np.mean(np.log(np.where(actual > 0, chances, 1 - chances))),
                "brier": np.mean((chances - actual) ** 2),
            },
            abs=2e-4,
        )
        assert sums.counts.sum(axis=1).tolist() == [(actual == 0).sum(), actual.sum()]
        assert abs(found["auroc"] - auroc(actual, logits)) <= sums.histogram.auroc_error()[0] < 1e-3

    def test_one_label_alone_has_no_ranking(self) -> None:
        """Nothing is compared; the other qualities stand."""
        sums = BinarySums()
        sums.add(np.zeros(3), np.array([-1.0, 1.0, -1.0]))
        assert set(sums.qualities()) == {"accuracy", "f1", "log_loss", "brier"}
        assert sums.qualities()["f1"] == 0.0

    def test_an_unknown_label_counts_as_wrong(self) -> None:
        """It lowers the accuracy and enters nothing else; where there is no other row, nothing is undefined."""
        sums = BinarySums()
        sums.add(np.array([-1.0]), np.array([3.0]))
        assert sums.qualities() == {"accuracy": 0.0, "f1": 0.0, "log_loss": 0.0, "brier": 0.0}
        sums.add(np.array([1.0]), np.array([3.0]))
        assert (sums.num_rows, sums.qualities()["accuracy"]) == (2, 0.5)

    def test_certainty_costs_a_finite_loss(self) -> None:
        """A probability of 0 for what is true costs 100, as in torch's BCELoss."""
        sums = BinarySums()
        sums.add(np.array([1.0, 0.0]), np.array([-np.inf, -np.inf]))
        assert sums.qualities()["log_loss"] == pytest.approx(50.0)


class TestLabels:
    def test_equals_the_formulas(self) -> None:
        """Means over labels, over pairs of row and label, and whole rows, in three batches."""
        columns = [rows(seed=seed) for seed in range(4)]
        actual, logits = (np.stack(values, axis=1) for values in zip(*columns, strict=True))
        sums = LabelSums(4)
        for part in np.array_split(np.arange(500), 3):
            sums.add(actual[part], logits[part])
        has, given = actual > 0, logits > 0
        f1 = 2 * (has & given).sum(axis=0) / (has.sum(axis=0) + given.sum(axis=0))
        assert sums.qualities() == pytest.approx(
            {
                "subset_accuracy": np.mean((has == given).all(axis=1)),
                "micro_f1": 2 * (has & given).sum() / (has.sum() + given.sum()),
                "macro_f1": f1.mean(),
                "mean_auroc": np.mean([auroc(*column) for column in columns]),
            },
            abs=2e-4,
        )
        assert sums.per_label()[:, 2] == pytest.approx(f1)

    def test_a_label_that_does_not_occur_is_left_out_of_means(self) -> None:
        """Nor is there an AUROC where no label has both sorts of rows; a row with an unknown label is only wrong."""
        sums = LabelSums(2)
        sums.add(np.array([[1.0, 0.0], [-1.0, -1.0]]), np.array([[1.0, -1.0], [1.0, 1.0]]))
        assert sums.qualities() == {"subset_accuracy": 0.5, "micro_f1": 1.0, "macro_f1": 1.0}
        nothing = LabelSums(1)
        nothing.add(np.zeros((1, 1)), -np.ones((1, 1)))
        assert nothing.qualities() == {"subset_accuracy": 1.0, "micro_f1": 0.0, "macro_f1": 0.0}


class TestHistogram:
    def test_does_not_grow(self) -> None:
        """Labels share what one has; ten thousand, the most there may be, have few bins each, and still rank."""
        wide = ScoreHistogram(10_000)
        assert wide.num_bins == 256
        assert ScoreHistogram(4096).num_bins * 4096 == ScoreHistogram(64).num_bins * 64 == 1 << 20
        is_positive = np.tile([[True], [False]], (1, 10_000))
        wide.add(is_positive, np.where(is_positive, 1.0, -1.0))
        assert (wide.auroc() == 1.0).all()

    def test_a_net_that_is_sure_ranks_too(self) -> None:
        """Logits about -25, far from where a probability of float32 is 0 or 1 to a reader, keep their order."""
        actual, logits = rows()
        sure = logits - 25.0
        histogram = ScoreHistogram(1)
        histogram.add((actual > 0)[:, None], sure[:, None])
        assert histogram.auroc()[0] == pytest.approx(auroc(actual, sure), abs=2e-3)

    def test_what_is_beyond_the_bins_or_no_number(self) -> None:
        """Infinite logits are in the last bins, NaN with those that say nothing."""
        histogram = ScoreHistogram(1)
        logits = np.array([[np.inf], [LIMIT], [np.nan], [-np.inf], [-LIMIT]])
        histogram.add(np.array([[True], [False], [True], [False], [False]]), logits)
        assert histogram.auroc()[0] == pytest.approx((2.5 + 2) / 6)

    def test_roc_is_bounded_and_has_the_area(self) -> None:
        """From (0, 0) to (1, 1), never falling; the trapezoids under it are the AUROC."""
        actual, logits = rows(20_000)
        histogram = ScoreHistogram(1)
        histogram.add((actual > 0)[:, None], logits[:, None])
        false, hits = histogram.roc()
        assert len(false) <= MAX_POINTS
        assert (false[0], hits[0], false[-1], hits[-1]) == (0.0, 0.0, 1.0, 1.0)
        assert (np.diff(false) >= 0).all()
        assert (np.diff(hits) >= 0).all()
        assert np.trapezoid(hits, false) == pytest.approx(histogram.auroc()[0], abs=1e-3)


def test_logits_of_probabilities() -> None:
    """The inverse of the logistic function; 0 and 1 are infinitely certain."""
    assert logits_of(np.array([0.5, 0.25])) == pytest.approx([0.0, np.log(1 / 3)])
    assert logits_of(np.array([0.0, 1.0])).tolist() == [-np.inf, np.inf]
