"""One number for how good answers are, the larger the better: what a faster graph may lose only so much of.

The share of right answers; for a regression, 1 less the root mean squared error in deviations of the target; for a
network whose truth is not known, how well its own float32 answers are met. The qualities that people read are in
`scores.py` and `label_scores.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from corelane.core.types import Array
from corelane.data.target import TargetEncoder
from corelane.model.decode import LABELS, PROBABILITIES, VALUE
from corelane.model.predictor import Predictor

BATCH_ROWS = 256


def answers_to(predictor: Predictor, rows: pa.Table) -> dict[str, Array]:
    """The answers to checked `rows` [n], computed 256 at a time."""
    parts = [predictor.predict_table(batch) for batch in rows.combine_chunks().to_batches(BATCH_ROWS)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def quality_of(answers: Mapping[str, Array], rows: pa.Table, target: TargetEncoder) -> float:
    """How good `answers` to `rows`, which hold their target, are: at most 1."""
    actual = target.encode(rows.combine_chunks().to_batches()[0])
    match target.task:
        case "binary" | "multi_class":
            return float(np.mean(answers[PROBABILITIES].argmax(axis=1) == actual))
        case "multi_label":
            return float(np.mean(answers[LABELS] == (actual > 0)))
        case "regression":
            errors = (answers[VALUE] - target.mean) / target.std - actual
            return 1.0 - float(np.sqrt(np.mean(np.square(errors))))


def agreement(answers: Mapping[str, Array], exact: Mapping[str, Array]) -> float:
    """How much of the variance of the `exact` answers [n, ...] these explain, of the output where it is least; of whole
    numbers, how many are the same.

    The coefficient of determination (Wright, "Correlation and causation", 1921): at most 1.
    """
    return min(_determination(answers[name], values) for name, values in exact.items())


def _determination(values: Array, exact: Array) -> float:
    if exact.dtype.kind != "f":
        return float(np.mean(values == exact))
    exact = exact.astype(np.float64)
    error = float(np.square(values - exact).sum())
    spread = float(np.square(exact - exact.mean(axis=0)).sum())
    return 1.0 - error / spread if spread > 0.0 else float(error == 0.0)
