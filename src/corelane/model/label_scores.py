"""Qualities of answers whose outputs are logits of labels: one of two (binary), or any of several (multi-label).

Sums as in `scores.py`, which says how they are used. Decisions are at a probability of 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from corelane.core.types import Array, IntArray
from corelane.model.score_histogram import ScoreHistogram
from corelane.model.scores import label_qualities

_LARGEST = 100.0  # the smallest float32 probability is exp(-103): where it is 0, the log loss stays finite


@dataclass
class BinarySums:
    """Counts [2, 2] of rows by actual (row) and predicted (column) label, the positive one last, and sums over logits.

    A row whose actual label is -1 (one the model does not know) is in no cell, and counts as wrong; only the accuracy
    knows of it.
    """

    counts: IntArray = field(default_factory=lambda: np.zeros((2, 2), dtype=np.int64))
    histogram: ScoreHistogram = field(default_factory=lambda: ScoreHistogram(1))
    num_unknown: int = 0
    _sums: Array = field(default_factory=lambda: np.zeros(2))

    def add(self, actual: Array, predicted: Array) -> None:
        """Add n rows: 0 or 1 [n], and the positive label's logits [n]."""
        known = actual >= 0
        self.num_unknown += int((~known).sum())
        is_positive, logits = actual[known] > 0, predicted[known].astype(np.float64)
        self.counts += np.bincount(2 * is_positive + (logits > 0), minlength=4).reshape(2, 2)
        self.histogram.add(is_positive[:, None], logits[:, None])
        own = np.clip(np.where(is_positive, logits, -logits), -_LARGEST, _LARGEST)
        small = np.exp(-np.abs(own))
        chance_of_other = np.where(own > 0, small, 1.0) / (1.0 + small)
        self._sums += [np.sum(np.logaddexp(0.0, -own)), np.sum(chance_of_other**2)]

    @property
    def num_rows(self) -> int:
        """Rows added so far."""
        return int(self.counts.sum()) + self.num_unknown

    def qualities(self) -> dict[str, float]:
        """`accuracy`; `f1` of the positive label; `auroc` and `average_precision`, where both labels occur;
        `log_loss`; `brier`, the mean square of what a probability lacks to 0 or 1 (Brier, 1950).
        """
        log_loss, squared = (self._sums / max(self.counts.sum(), 1)).tolist()
        hits, wrong = int(self.counts[1, 1]), int(self.counts[0, 1] + self.counts[1, 0])
        ranking = {
            "auroc": float(self.histogram.auroc()[0]),
            "average_precision": float(self.histogram.average_precision()[0]),
        }
        return {
            "accuracy": float(np.trace(self.counts) / self.num_rows),
            "f1": 2 * hits / (2 * hits + wrong) if hits + wrong else 0.0,
            **(ranking if self.counts.sum(axis=1).all() else {}),
            "log_loss": log_loss,
            "brier": squared,
        }


@dataclass
class LabelSums:
    """For each of `num_labels` labels how many rows have it, were given it, and both; and rows with no error at all.

    A row with a label that the model does not know has all its targets at -1, and counts as wrong in
    `subset_accuracy` alone.
    """

    num_labels: int
    num_rows: int = 0
    num_exact: int = 0
    hits: IntArray = field(init=False)
    actual: IntArray = field(init=False)
    predicted: IntArray = field(init=False)
    histogram: ScoreHistogram = field(init=False)

    def __post_init__(self) -> None:
        self.hits, self.actual, self.predicted = np.zeros((3, self.num_labels), dtype=np.int64)
        self.histogram = ScoreHistogram(self.num_labels)

    def add(self, actual: Array, predicted: Array) -> None:
        """Add n rows: 0 or 1 [n, k], and logits [n, k]."""
        self.num_rows += len(actual)
        known = (actual >= 0).all(axis=1)
        has, logits = actual[known] > 0, predicted[known]
        given = logits > 0
        self.hits += (has & given).sum(axis=0)
        self.actual += has.sum(axis=0)
        self.predicted += given.sum(axis=0)
        self.num_exact += int((has == given).all(axis=1).sum())
        self.histogram.add(has, logits)

    def qualities(self) -> dict[str, float]:
        """`subset_accuracy`, the share of rows without an error; `micro_f1` over all pairs of row and label; `macro_f1`
        and `mean_auroc`, the means over labels that have one.
        """
        totals = label_qualities(*(values.sum(keepdims=True) for values in (self.hits, self.actual, self.predicted)))
        macro_f1, mean_auroc = _mean(self.per_label()[:, 2]), _mean(self.histogram.auroc())
        return {
            "subset_accuracy": self.num_exact / self.num_rows,
            "micro_f1": _mean(totals[:, 2]) or 0.0,
            "macro_f1": macro_f1 or 0.0,
            **({} if mean_auroc is None else {"mean_auroc": mean_auroc}),
        }

    def per_label(self) -> Array:
        """Precision, recall and F1 of each label [k, 3]; NaN where a label does not occur at all."""
        return label_qualities(self.hits, self.actual, self.predicted)


def logits_of(chances: Array) -> Array:
    """Logits of probabilities [n, k]; infinite at 0 and 1, which the sums take to their largest."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(chances) - np.log1p(-chances))


def _mean(values: Array) -> float | None:
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else None
