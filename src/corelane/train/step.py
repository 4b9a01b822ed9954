"""One step of training, from a batch to new weights, and the plainest way to run it.

A `Step` is what the plan chooses: the ways differ in speed, not in meaning. The trainer calls it through `Learner`;
the other ways lie in `engines/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from corelane.train.batches import TensorBatch
from corelane.train.timing import StopWatch
from corelane.train.update import Outcome, Update

LossOf = Callable[[list[Tensor], Tensor], Tensor]
"""(inputs, target) -> the batch's loss, a scalar with a graph behind it."""


class Step(Protocol):
    """Runs whole steps on the parameters it was built for."""

    def run(self, batches: Sequence[TensorBatch]) -> Outcome:
        """Take one step on a batch, given in one or more pieces whose gradients add up.

        A loss or gradient that is not finite changes no weight, average or statistic, and the outcome says so.
        """
        ...


class EagerStep:
    """Operator by operator: forward, loss, backward, then the fused update. Nothing to compile, nothing to wait for.

    `after_piece` is called for each piece of a batch that comes in several: such a step may take minutes.
    """

    def __init__(
        self, loss_of: LossOf, update: Update, watch: StopWatch, after_piece: Callable[[], None] = lambda: None
    ) -> None:
        self._loss_of = loss_of
        self._update = update
        self._watch = watch
        self._after_piece = after_piece

    def run(self, batches: Sequence[TensorBatch]) -> Outcome:
        """As `Step.run`."""
        watch = self._watch
        loss = self._backward(*batches[0]) if len(batches) == 1 else self._accumulate(batches)
        outcome = self._update.apply(loss)
        watch.lap("optimiser")
        return outcome

    def _backward(self, inputs: list[Tensor], target: Tensor, share: float = 1.0) -> Tensor:
        loss = self._loss_of(inputs, target)
        if share != 1.0:
            loss = loss * share
        self._watch.lap("forward")
        loss.backward()  # type: ignore[no-untyped-call]
        self._watch.lap("backward")
        return loss.detach()

    def _accumulate(self, batches: Sequence[TensorBatch]) -> Tensor:
        """The loss is a mean over rows, so each piece counts by its share of them."""
        num_rows = sum(len(target) for _, target in batches)
        parts = []
        for inputs, target in batches:
            parts.append(self._backward(inputs, target, len(target) / num_rows))
            self._after_piece()
        return torch.stack(parts).sum()


def pieces(batch: TensorBatch, num_rows: int) -> list[TensorBatch]:
    """`batch` in the fewest pieces of at most `num_rows` rows, in order, without copies.

    Their sizes differ by one at most: batch norm cannot take a piece of one row.
    """
    inputs, target = batch
    if len(target) <= num_rows:
        return [batch]
    num_pieces = -(-len(target) // num_rows)
    cut = zip(*(tensor.tensor_split(num_pieces) for tensor in (*inputs, target)), strict=True)
    return [(list(piece[:-1]), piece[-1]) for piece in cut]
