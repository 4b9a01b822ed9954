"""How many rows a run puts through its network at once, where the memory is too small for more: kept in the run.

The batch of the optimiser stays as configured: its gradient is added up from smaller pieces. Sums in another order
round differently, so from there on the run is no longer equal, bit for bit, to one that had the memory. What a person
sets afterwards goes before the record: that is the way up again, when there is more memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from corelane.core.errors import OutOfMemoryError
from corelane.core.types import JsonObject
from corelane.observe.log import SystemLogger
from corelane.store.bundle import write_atomic
from corelane.train.config import TrainConfig
from corelane.train.heartbeat import Beat

FILE: Final = "micro_batch.json"
VERSION: Final = 1


class PieceSize:
    """Keeps in every checkpoint how many rows it was made with, and says so when a run goes on with another number."""

    def __init__(self, rows: int, logger: SystemLogger, notes: list[JsonObject]) -> None:
        self._rows = rows
        self._logger = logger
        self._notes = notes

    def state_dict(self) -> dict[str, Any]:
        """The number of rows."""
        return {"rows": self._rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Compare with what a checkpoint was made with."""
        if state["rows"] != self._rows:
            changed = {"micro_batch": f"{state['rows']} -> {self._rows}"}
            self._notes.append({"event": "resume_not_exact", "changed": changed})
            self._logger.training.warning(
                "resume_not_exact",
                changed=changed,
                reason="the last bits of the weights may differ from a run with as much memory as before",
            )


def recorded_rows(directory: Path) -> int | None:
    """The rows that the run in `directory` was brought down to; None where its memory always sufficed."""
    rows: int | None = _record(directory).get("rows")
    return rows


def _record(directory: Path) -> JsonObject:
    try:
        record: JsonObject = json.loads((directory / FILE).read_bytes())
    except FileNotFoundError:
        return {}
    return record


def within_memory(config: TrainConfig, directory: Path) -> TrainConfig:
    """`config` with the rows that the run was brought down to, where it was and no other number was set since."""
    record = _record(directory)
    is_newer = config.micro_batch_size not in (None, record.get("configured"))
    return config if is_newer or not record else config.model_copy(update={"micro_batch_size": record["rows"]})


def halve(directory: Path, config: TrainConfig, beat: Beat) -> int:
    """Bring the run in `directory`, that ended at `beat` for want of memory, down to half the rows; durably.

    Raises `OutOfMemoryError` when it was one row already.
    """
    rows = beat.micro_batch or within_memory(config, directory).micro_batch_size or config.batch_size
    if rows == 1:
        raise OutOfMemoryError(
            f"the memory must hold one row's step of this network, got too little for it at step {beat.step + 1} "
            "with train.micro_batch_size 1; give the run more memory, then run the same command with --resume and "
            f"--set train.micro_batch_size={config.batch_size}, or choose a smaller network"
        )
    because = f"the memory ended in step {beat.step + 1} with {rows}"
    record_rows(directory, rows // 2, because, configured=config.micro_batch_size)
    return rows // 2


def record_rows(directory: Path, rows: int, because: str, *, configured: int | None = None) -> None:
    """Have the run in `directory` go on with `rows` rows at once, from its next start; durably.

    It counts until another number than `configured` is set.
    """
    record = {"version": VERSION, "rows": rows, "because": because, "configured": configured}
    write_atomic(directory / FILE, json.dumps(record).encode())
