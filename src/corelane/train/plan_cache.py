"""Plans kept for other runs: one small file each in the cache directory, the oldest leave when there are too many."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from corelane.core.errors import CorelaneError
from corelane.observe.log import SystemLogger
from corelane.train.plan import Plan, read_plan, write_plan

FOLDER: Final = "plans"
MOST_PLANS = 1000  # of a few kilobytes each


class PlanCache:
    """Owns the plans in `directory`/plans and nothing else. A plan that cannot be kept costs a warning."""

    def __init__(self, directory: Path, logger: SystemLogger) -> None:
        self._folder = directory / FOLDER
        self._logger = logger

    def get(self, key: str) -> Plan | None:
        """The plan for `key`; None where there is none, or its file is broken (the log says so)."""
        path = self._path(key)
        try:
            return read_plan(path)
        except FileNotFoundError:
            return None
        except (CorelaneError, OSError) as error:
            self._logger.training.warning("plan_unreadable", file=str(path), reason=str(error), action="search again")
            return None

    def put(self, plan: Plan) -> None:
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
