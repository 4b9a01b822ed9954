"""One pass over a part of the data without learning: used for the validation part each epoch, the test part once."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from corelane.data.pipeline import Pipeline
from corelane.model.modes import evaluating
from corelane.train.batches import TensorBatch
from corelane.train.metrics import Evaluation, scores_for

BATCH_ROWS = 256  # large enough for full speed, small enough that a CNN's activations stay in the caches


def evaluate(module: torch.nn.Module, batches: Iterable[TensorBatch], pipeline: Pipeline) -> Evaluation:
    """Loss and quality of `module` on `batches`, which must have rows. Each of its parts is left in its own mode."""
    scores = scores_for(pipeline.target)
    with evaluating(module), torch.inference_mode():
        for inputs, target in batches:
            scores.update(module(*inputs), target)
    return scores.result()
