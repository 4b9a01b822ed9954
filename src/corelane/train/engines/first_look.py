"""A look at the network's first batch, for engines that would train it otherwise than the eager one does.

Its parts cannot tell: a user's forward pass may drop activations by itself, or keep statistics in a buffer. So one pass
is made, and what it did is undone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from corelane.core.errors import ConfigError
from corelane.train import randomness
from corelane.train.batches import TensorBatch
from corelane.train.forward import Forward
from corelane.train.step import Step
from corelane.train.update import Outcome

DRAWS = "the network draws random numbers, which would be others when compiled"
CHANGES = "the network keeps statistics of its batches"


class FirstLook:
    """`step`, if a pass over its first batch neither draws random numbers nor, unless `may_change`, changes a buffer.

    Else `run` raises what `refuse` makes of the reason, before anything is trained.
    """

    def __init__(
        self,
        step: Step,
        module: nn.Module,
        forward: Forward,
        *,
        may_change: bool,
        refuse: Callable[[str], ConfigError],
    ) -> None:
        self._step = step
        self._module = module
        self._forward = forward
        self._may_change = may_change
        self._refuse = refuse
        self._was_seen = False

    def run(self, batches: Sequence[TensorBatch]) -> Outcome:
        """As `Step.run`."""
        if not self._was_seen:
            draws, changes = effects(self._module, self._forward, batches[0])
            if draws or (changes and not self._may_change):
                raise self._refuse(DRAWS if draws else CHANGES)
            self._was_seen = True
        return self._step.run(batches)


def effects(module: nn.Module, forward: Forward, batch: TensorBatch) -> tuple[bool, bool]:
    """Whether a pass of `module` over `batch` draws random numbers, and whether it changes a buffer; both undone."""
    random, buffers = randomness.capture(), {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        with torch.no_grad():
            forward(*batch)
        draws = randomness.capture() != random
        changed = [buffer for name, buffer in module.named_buffers() if not torch.equal(buffer, buffers[name])]
        return draws, bool(changed)
    finally:
        randomness.restore(random)
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])
