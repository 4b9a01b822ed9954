"""What learns: a network with its loss, optimiser, learning rate and averaged weights, ready to take steps.

`Trainer` runs one through the epochs; the search for a plan runs short ones to time them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from corelane.core.errors import ConfigError
from corelane.train.averaging import averaging_for
from corelane.train.batches import TensorBatch, by_columns, in_layout
from corelane.train.config import TrainConfig
from corelane.train.engines.engine import make_step
from corelane.train.freezing import freeze, to_training_mode
from corelane.train.losses import Loss
from corelane.train.nonfinite import Guard
from corelane.train.optimizers import make_optimizer
from corelane.train.plan import Candidate
from corelane.train.precision import in_precision, matmul_precision
from corelane.train.schedule import Schedule
from corelane.train.step import pieces
from corelane.train.timing import StopWatch
from corelane.train.update import Outcome, Update

BATCH_NORM_ERROR = "Expected more than 1 value per channel when training"  # torch has no class of its own for it


class Learner:
    """Takes steps on `module` the way `candidate` says, `total_steps` in a whole run; laps go to `watch`.

    `micro_batch_size` rows go through the network at once; a larger batch goes in pieces, its gradients added up,
    and `after_piece` is called after each.
    Raises `ConfigError` when the network has nothing to train.
    """

    def __init__(
        self,
        config: TrainConfig,
        module: torch.nn.Module,
        loss: Loss,
        *,
        candidate: Candidate,
        total_steps: int,
        micro_batch_size: int,
        watch: StopWatch,
        after_piece: Callable[[], None] = lambda: None,
    ) -> None:
        freeze(module, config.freeze)
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not parameters:
            raise ConfigError(
                f"the network must have parameters to train, got none in {type(module).__name__}; "
                "add some, or freeze fewer"
            )
        self.module = _laid_out(module, candidate)
        self.parameters = parameters
        self.optimizer = make_optimizer(config, parameters)
        self.schedule = Schedule(self.optimizer, config, total_steps)
        self.average = averaging_for(module, config.ema_decay)
        self._micro_batch_size = micro_batch_size
        self._guard = Guard(module)
        update = Update(config, self.optimizer, self.schedule, self.average, self._guard)
        self._precision = matmul_precision(candidate.precision)
        self._step = make_step(
            candidate,
            config,
            in_precision(self.module, candidate.precision),
            loss,
            optimizer=self.optimizer,
            schedule=self.schedule,
            average=self.average,
            update=update,
            watch=watch,
            after_piece=after_piece,
        )

    def start(self) -> None:
        """Put the network in training mode; frozen parts stay out of it."""
        to_training_mode(self.module)

    def step(self, batch: TensorBatch) -> Outcome:
        """One step on `batch`. Raises `ConfigError` when it gives batch norm one row, which has no variance."""
        self._guard.begin()
        given = pieces(batch, self._micro_batch_size)
        try:
            with self._precision:
                return self._step.run(given)
        except ValueError as error:
            if BATCH_NORM_ERROR not in str(error):
                raise
            raise ConfigError(
                "a network with batch norm must get at least two rows at once, got "
                f"{min(len(target) for _, target in given)}; raise train.batch_size or train.micro_batch_size"
            ) from error

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the network has the weights that are evaluated and kept: the averaged ones, where there are any."""
        context: AbstractContextManager[None] = self.average.swapped_in()
        return context


def _laid_out(module: torch.nn.Module, candidate: Candidate) -> torch.nn.Module:
    """`module` in the layout that suits the candidate best, before anything refers to its memory."""
    if candidate.memory_format == "channels_last":
        module = in_layout(module, torch.channels_last)
    return by_columns(module) if candidate.engine == "graph" else module
