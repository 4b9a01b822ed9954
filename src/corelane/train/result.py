"""What a finished run reached."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from corelane.core.types import JsonObject
from corelane.train.metrics import Evaluation
from corelane.train.timing import STEP_PHASES


@dataclass(frozen=True)
class TrainResult:
    """The outcome of a run: `num_steps` taken in `num_epochs` epochs, the best epoch's step, how well, how fast.

    `validation` and `test` are the best weights' results (None without such a part); `examples_per_s` counts the
    training part only, over the whole time; `seconds` says what took it (see `timing.PHASES`). `notes` tells what made
    the run another than an unbroken one (a broken checkpoint passed over, other threads), one object each.
    """

    directory: Path
    num_steps: int
    num_epochs: int
    best_step: int
    stopped_early: bool
    validation: Evaluation | None
    test: Evaluation | None
    examples_per_s: float
    seconds: dict[str, float]
    notes: tuple[JsonObject, ...] = ()

    @property
    def metrics(self) -> dict[str, float]:
        """`validation_loss`, `test_accuracy`, `test_rmse`...: the parts' finite losses and qualities by name."""
        return {name: value for name, value in self._measured.items() if math.isfinite(value)}

    @property
    def not_finite(self) -> list[str]:
        """Names of what came out infinite or NaN, as the loss of a test row far outside the training data may."""
        return [name for name, value in self._measured.items() if not math.isfinite(value)]

    @property
    def _measured(self) -> dict[str, float]:
        parts = {"validation": self.validation, "test": self.test}
        return {
            name: value
            for part, evaluation in parts.items()
            if evaluation is not None
            for name, value in evaluation.named(part).items()
        }

    @property
    def overhead_share(self) -> float:
        """The part of the steps' own time that went to neither the network nor the optimiser: gathering batches,
        counting, logging, showing. Saving and evaluating are no part of it.
        """
        lost = self.seconds["data"] + self.seconds["other"]
        return lost / max(lost + sum(self.seconds[phase] for phase in STEP_PHASES), 1e-9)

    def to_json(self) -> JsonObject:
        """The result as JSON, without paths of the machine."""
        return {
            "version": 1,
            "num_steps": self.num_steps,
            "num_epochs": self.num_epochs,
            "best_step": self.best_step,
            "stopped_early": self.stopped_early,
            "metrics": self.metrics,
            "examples_per_s": self.examples_per_s,
            "seconds": self.seconds,
            "overhead_share": self.overhead_share,
            "notes": list(self.notes),
        }
