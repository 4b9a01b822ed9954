"""Which checkpoints stay: the newest, the best, and one every so many steps. A pure function.

`folder.py` asks it after each save, in the saver's thread, and `corelane checkpoints prune` by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MIN_VERIFIED = 2  # one may be found broken when it is needed


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


def saved_steps(checkpoint_dir: Path) -> list[int]:
    """The steps that have a checkpoint, oldest first; whether each is whole is found out by reading it."""
    if not checkpoint_dir.is_dir():
        return []
    return sorted(int(path.name) for path in checkpoint_dir.iterdir() if path.name.isdecimal() and path.name.isascii())
