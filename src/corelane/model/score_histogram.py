"""Logits of positive and negative rows, counted in bins: the ranking qualities AUROC and average precision from sums
whose size does not depend on the number of rows. `label_scores.py` uses it.

Both are exact for logits rounded to the bins, which are even in asinh(logit): for one label 0.0007 wide about 0, where
most logits are, and about 0.0007 of the logit further out. A pair of a positive and a negative row in one bin counts
half in the AUROC, so that it is off by at most half the share of such pairs (`auroc_error`).
"""

from __future__ import annotations

import math

import numpy as np

from corelane.core.types import Array, IntArray

LIMIT = 104.0  # the smallest float32 probability is exp(-103.3); a net that is sure of itself ranks at -25 too
MAX_BINS, MIN_BINS = 1 << 14, 1 << 8
MAX_POINTS = 200  # of a curve
_MAX_COUNTS = 1 << 21  # over all labels: 16 MiB; above 4,096 labels `MIN_BINS` each, 39 MiB for 10,000
_SPAN = math.asinh(LIMIT)


class ScoreHistogram:
    """Owns how many positive and negative rows of each of `num_labels` labels have a logit in each bin."""

    def __init__(self, num_labels: int) -> None:
        self.num_bins = max(MIN_BINS, min(MAX_BINS, _MAX_COUNTS // (2 * num_labels)))
        self._counts: IntArray = np.zeros((num_labels, 2, self.num_bins), dtype=np.int64)
        self._firsts = 2 * np.arange(num_labels)

    def add(self, is_positive: Array, logits: Array) -> None:
        """Add n rows: bool [n, k] and float [n, k]. What is no number counts as 0."""
        places = np.clip(np.nan_to_num(logits, nan=0.0, posinf=LIMIT, neginf=-LIMIT), -LIMIT, LIMIT)
        bins = ((np.arcsinh(places) + _SPAN) * (self.num_bins / (2 * _SPAN))).astype(np.int64)
        cells = (self._firsts + is_positive) * self.num_bins + np.minimum(bins, self.num_bins - 1)
        np.add.at(self._counts.reshape(-1), cells.reshape(-1), 1)

    def auroc(self) -> Array:
        """The area under each label's ROC curve [k]: the chance that a positive row has a larger logit than a negative
        one, ties counting half (Hanley and McNeil, 1982). NaN where rows of one sort are missing.
        """
        negative, positive = self._counts[:, 0], self._counts[:, 1]
        below = negative.cumsum(axis=1) - negative
        wins = (positive * (below + negative / 2)).sum(axis=1)
        return self._share(wins)

    def auroc_error(self) -> Array:
        """How far `auroc` may be from that of the logits themselves [k]."""
        return self._share((self._counts[:, 0] * (self._counts[:, 1] / 2)).sum(axis=1))

    def _share(self, pairs: Array) -> Array:
        totals = self._counts.sum(axis=2).astype(np.float64)
        with np.errstate(invalid="ignore"):
            return np.asarray(pairs / (totals[:, 0] * totals[:, 1]))

    def average_precision(self) -> Array:
        """Each label's sum over falling thresholds of (recall - the recall before) x precision [k], without
        interpolation (scikit-learn's `average_precision_score`). NaN without a positive row.
        """
        hits, false = self._falling(1), self._falling(0)
        gained = np.diff(hits, axis=1, prepend=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(gained > 0, hits / (hits + false), 0.0)
            return np.asarray((gained * precision).sum(axis=1) / hits[:, -1])

    def roc(self, label: int = 0) -> tuple[Array, Array]:
        """Rates of false and of true positives [m] at falling thresholds, from (0, 0) to (1, 1), at most `MAX_POINTS`
        of them. Rows of both sorts must have been added.
        """
        false, hits = self._falling(0)[label], self._falling(1)[label]
        steps = np.flatnonzero(self._counts[label].sum(axis=0)[::-1])
        steps = steps[np.unique(np.linspace(0, len(steps) - 1, MAX_POINTS - 1).astype(np.int64))]
        return np.append(0, false[steps]) / false[-1], np.append(0, hits[steps]) / hits[-1]

    def _falling(self, sort: int) -> IntArray:
        """How many rows of a sort have a logit in a bin or above it, from the highest bin down [k, num_bins]."""
        return np.asarray(self._counts[:, sort, ::-1].cumsum(axis=1))
