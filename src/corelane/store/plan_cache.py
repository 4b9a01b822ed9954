"""Plans kept for other runs: one small file each in the cache directory, the oldest leave when there are too many."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic

from corelane.core.errors import CorelaneError, StateError
from corelane.machine.plan import CandidateT, Plan
from corelane.observe.log import SystemLogger
from corelane.store.bundle import write_atomic

FOLDER: Final = "plans"
MOST_PLANS = 1000  # of a few kilobytes each


class PlanCache(Generic[CandidateT]):
    """Owns the plans in `directory`/plans and nothing else. A plan that cannot be kept costs a warning.

    `make` gives a candidate of the fields that its plan was written with.
    """

    def __init__(self, directory: Path, logger: SystemLogger, make: Callable[..., CandidateT]) -> None:
        self._make = make
        self._folder = directory / FOLDER
        self._logger = logger

    def get(self, key: str) -> Plan[CandidateT] | None:
        """The plan for `key`; None where there is none, or its file is broken (the log says so)."""
        path = self._path(key)
        try:
            return read_plan(path, self._make)
        except FileNotFoundError:
            return None
        except (CorelaneError, OSError) as error:
            self._logger.training.warning("plan_unreadable", file=str(path), reason=str(error), action="search again")
            return None

    def put(self, plan: Plan[CandidateT]) -> None:
        """Keep `plan` under its key."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_plan(self._path(plan.key), plan)
            self._evict()
        except (CorelaneError, OSError) as error:
            self._logger.training.warning("plan_not_kept", file=str(self._path(plan.key)), reason=str(error))

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _evict(self) -> None:
        paths = list(self._folder.glob("*.json"))
        if len(paths) > MOST_PLANS:
            for path in sorted(paths, key=lambda path: path.stat().st_mtime)[:-MOST_PLANS]:
                path.unlink(missing_ok=True)


def read_plan(path: Path, make: Callable[..., CandidateT]) -> Plan[CandidateT]:
    """The plan in the file `path`. Raises `StateError` for anything else; `OSError` when it cannot be read."""
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise StateError(f"{path} must hold a plan as JSON, got {error}; remove it") from error
    return Plan.from_json(values, make)


def write_plan(path: Path, plan: Plan[CandidateT]) -> None:
    """Write `plan` to `path`, whole and durable."""
    write_atomic(path, json.dumps(plan.to_json(), indent=2).encode())
