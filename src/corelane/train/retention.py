"""Which checkpoints stay: the newest, the best, and one every so many steps.

`folder.py` asks after each save, in the saver's thread, and `corelane checkpoints prune` by hand. Nothing here imports
torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

MIN_WHOLE = 2  # one may be found broken when it is needed
RANKED_BY = "validation_loss"


@dataclass(frozen=True)
class Retention:
    """The newest `last` stay, the `best` with the lowest validation loss, and those of every `every` steps (0: none).

    Two that are known to be whole always stay, whatever is asked.
    """

    last: int = 3
    best: int = 0
    every: int = 0

    def stays(self, losses: Mapping[int, float | None]) -> frozenset[int]:
        """Those of the steps that stay, given each step's validation loss where it is known. At the same loss, which
        an epoch's checkpoints have, the later is better.
        """
        newest = sorted(losses)[-max(self.last, 1) :]
        ranked = sorted((loss, -step) for step, loss in losses.items() if loss is not None)
        regular = [step for step in losses if self.every and step % self.every == 0]
        return frozenset([*newest, *(-step for _, step in ranked[: self.best]), *regular])

    def doomed(self, losses: Mapping[int, float | None], is_whole: Callable[[int], bool]) -> list[int]:
        """What may go, oldest first: all that need not stay, but for what makes up two whole ones."""
        stays = self.stays(losses)
        doomed = sorted(losses.keys() - stays)
        num_missing = MIN_WHOLE - sum(map(is_whole, stays)) if doomed else 0
        spared = []
        for step in reversed(doomed):
            if num_missing > 0:
                num_missing -= is_whole(step)
                spared.append(step)
        return [step for step in doomed if step not in spared]


def saved_steps(checkpoint_dir: Path) -> list[int]:
    """The steps that have a checkpoint, oldest first; whether each is whole is found out by reading it."""
    if not checkpoint_dir.is_dir():
        return []
    return sorted(int(path.name) for path in checkpoint_dir.iterdir() if path.name.isdecimal() and path.name.isascii())


def read_loss(state: Path) -> float | None:
    """The validation loss in a checkpoint's `state.json`; None where it has none, or cannot be read."""
    try:
        return loss_in(json.loads(state.read_bytes())["metrics"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def loss_in(metrics: Mapping[str, object]) -> float | None:
    """What checkpoints are ranked by, where it was measured."""
    value = metrics.get(RANKED_BY)
    return float(value) if isinstance(value, int | float) else None
