"""Steps at which a run crashed again and again, and the rows of their batches, which may be taken out of training.

The process that watches a run knows the step and writes it down; the trainer knows the rows, because the order is a
pure function of seed, epoch and position. It completes the record, `suspects.json`, with their positions in the source,
and then stops, or goes on with other rows in their place: batches keep their size, and the schedule its steps.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from corelane.core.errors import CrashLoopError
from corelane.core.types import IntArray
from corelane.data.order import EpochOrder, epoch_order, mix
from corelane.data.prepared import PreparedPart
from corelane.data.processor import Order
from corelane.observe.log import SystemLogger
from corelane.store.bundle import write_atomic
from corelane.train.config import TrainConfig

FILE: Final = "suspects.json"
VERSION: Final = 1
_SHOWN: Final = 20  # positions in a message; all of them are in the file


@dataclass(frozen=True)
class Suspect:
    """Batch `batch` of epoch `epoch` (both from 0), that is step `step` (from 1), and how it ended each time.

    `positions` are the rows' in their source (from 0); empty until the trainer has told them. `since` is the checkpoint
    that the run went on from when they were taken out: later ones were made without them.
    """

    epoch: int
    batch: int
    step: int
    reason: str
    positions: tuple[int, ...] = ()
    since: int = -1


def read_suspects(directory: Path) -> list[Suspect]:
    """What is written down in the run `directory`, oldest first."""
    try:
        entries = json.loads((directory / FILE).read_bytes())["suspects"]
    except FileNotFoundError:
        return []
    return [Suspect(**{**entry, "positions": tuple(entry["positions"])}) for entry in entries]


def write_suspects(directory: Path, suspects: Sequence[Suspect]) -> None:
    """Write `suspects` down in the run, durably; none removes the file."""
    if not suspects:
        (directory / FILE).unlink(missing_ok=True)
        return
    record = {"version": VERSION, "suspects": [asdict(suspect) for suspect in suspects]}
    write_atomic(directory / FILE, json.dumps(record).encode())


class HealthyRows:
    """Gives the order of an epoch without the rows that were taken out of training. Frozen; without any it is free."""

    def __init__(self, seed: int, part: PreparedPart, removed: IntArray) -> None:
        self._seed = seed
        self._part = part
        self._removed = removed

    def order(self, epoch: int) -> Order:
        """The order of epoch `epoch`; where it would visit a removed row, another one is drawn in its place."""
        order = epoch_order(self._seed, epoch, self._part.num_rows, self._part.row_bytes)
        return order if self.are_all else self._replaced(order, epoch)

    def batch(self, epoch: int, batch: int, batch_size: int) -> IntArray:
        """The rows of one batch, as indices into the part."""
        first = batch * batch_size
        order = self.order(epoch)
        pieces = order.rows(first) if isinstance(order, EpochOrder) else iter([order[first:]])
        rows: IntArray = np.empty(0, dtype=np.int64)
        while len(rows) < batch_size:
            rows = np.concatenate([rows, next(pieces)])
        return rows[:batch_size]

    @property
    def are_all(self) -> bool:
        """Whether none was taken out."""
        return self._removed.size == 0

    @property
    def is_empty(self) -> bool:
        """Whether no row is left."""
        return self._removed.size == self._part.num_rows

    def without(self, rows: IntArray) -> HealthyRows:
        """The same with `rows` removed too."""
        return HealthyRows(self._seed, self._part, np.union1d(self._removed, rows))

    def _replaced(self, order: EpochOrder, epoch: int) -> IntArray:
        rows = np.concatenate(list(order.rows()))
        is_removed = np.isin(rows, self._removed)
        healthy, places = rows[~is_removed], np.flatnonzero(is_removed)
        draws = mix(places, "in place of removed rows", self._seed, epoch) % np.uint64(len(healthy))
        rows[places] = healthy[draws.astype(np.int64)]
        return rows


def healthy_rows(
    directory: Path, config: TrainConfig, *, seed: int, part: PreparedPart, batch_size: int, logger: SystemLogger
) -> HealthyRows:
    """The rows that the run in `directory` trains on: all of `part` but those of suspect steps, which are now named.

    Raises `CrashLoopError` naming step and rows where `train.on_crash_loop` is stop, and when no row would be left.
    """
    healthy = HealthyRows(seed, part, np.empty(0, dtype=np.int64))
    named = []
    for suspect in read_suspects(directory):
        rows = healthy.batch(suspect.epoch, suspect.batch, batch_size)
        named.append(replace(suspect, positions=tuple(part.positions[rows].tolist())))
        healthy = healthy.without(rows)
    if not named:
        return healthy
    write_suspects(directory, named)
    if config.on_crash_loop == "stop" or healthy.is_empty:
        raise CrashLoopError(describe(named[-1]))
    for suspect in named:
        logger.training.warning("rows_quarantined", **asdict(suspect), action="other rows are drawn in their place")
    return healthy


def describe(suspect: Suspect) -> str:
    """What a person is told of a step that a run did not get past."""
    if suspect.positions:
        shown = ", ".join(map(str, suspect.positions[:_SHOWN])) + ", ..." * (len(suspect.positions) > _SHOWN)
        rows = f"rows {shown} of the source (from 0; all are in {FILE})"
    else:
        rows = "rows that could not be named"
    return (
        f"training must get past step {suspect.step}, got the same end there each time: {suspect.reason}. It is batch "
        f"{suspect.batch + 1} of epoch {suspect.epoch + 1}: {rows}. Look at them, or go on without them: the same "
        "command with --set train.on_crash_loop=quarantine --resume"
    )
