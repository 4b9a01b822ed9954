"""Where a run is: the counters and sums that, with the tensors, make up its state."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

from corelane.core.types import JsonObject


@dataclass
class Counters:
    """`batch` steps of epoch `epoch` (from 0) are done, `step` in all.

    `loss_sum` runs since the last log entry, `epoch_loss_sum` since the epoch's start. `best_metric` is the lowest
    validation loss, reached at `best_step`; `stale_epochs` have passed since. `seconds` is the time by phase, over all
    attempts of the run.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    epoch_loss_sum: float = 0.0
    best_metric: float = math.inf
    best_step: int = 0
    stale_epochs: int = 0
    is_finished: bool = False
    stopped_early: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """The counters as JSON, which has no infinity: a best metric that is not there yet is null."""
        return {**asdict(self), "best_metric": self.best_metric if math.isfinite(self.best_metric) else None}

    @classmethod
    def from_json(cls, values: JsonObject) -> Counters:
        """The counters that `to_json` gave."""
        best = values["best_metric"]
        return cls(**{**values, "best_metric": math.inf if best is None else best})
