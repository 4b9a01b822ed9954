"""One number for how good answers are, the larger the better: what a faster graph may lose only so much of.

The share of right answers; for a regression, 1 less the root mean squared error in deviations of the target. The
qualities that people read are in `scores.py` and `label_scores.py`.
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
