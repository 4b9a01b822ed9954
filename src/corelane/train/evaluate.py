"""One pass over a part of the data without learning: used for the validation part each epoch, the test part once."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from corelane.data.pipeline import Pipeline
from corelane.model.modes import evaluating
from corelane.train.batches import TensorBatch
from corelane.train.config import TrainConfig
from corelane.train.metrics import Evaluation, scores_for

BATCH_ROWS = 256  # large enough for full speed, small enough that a CNN's activations stay in the caches


def rows_at_once(config: TrainConfig) -> int:
    """Rows of a batch of an evaluation: no more than a step puts through the network, where the memory is small."""
    return min(BATCH_ROWS, config.micro_batch_size or BATCH_ROWS)


def evaluate(module: torch.nn.Module, batches: Iterable[TensorBatch], pipeline: Pipeline) -> Evaluation:
    """Loss and quality of `module` on `batches`, which must have rows. Each of its parts is left in its own mode."""
    scores = scores_for(pipeline.target)
    with evaluating(module), torch.inference_mode():
        for inputs, target in batches:
            scores.update(module(*inputs), target)
    return scores.result()
