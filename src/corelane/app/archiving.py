"""What outlives its machine: finished runs' logs and published packages, copied to the shared tier where one is set.

A store that fails costs a warning. Called when a run or a package is done; nothing is ever read back from here. Others
read what lies there, so a run's configuration goes without what may be secret.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from corelane.app.config import RootConfig
from corelane.app.run_records import public_config, run_key
from corelane.app.runs import CONFIG_NAME
from corelane.app.tiers import archive_of
from corelane.observe.log import SystemLogger
from corelane.store.bundle import MANIFEST, file_digest

RUNS, PACKAGES = "runs", "packages"
RUN_FILES = ("plan.json", "metrics.jsonl", "result.json", "report.html", "run.json", "logs/*.jsonl")


def archive_run(directory: Path, root: RootConfig) -> None:
    """Copy the configuration, the history, the report and the logs of a finished run."""
    if root.machine.cache_shared is None:
        return
    paths = sorted(path for pattern in RUN_FILES for path in directory.glob(pattern))
    files = {path.relative_to(directory).as_posix(): path for path in paths}
    name = f"{directory.name}-{run_key(directory)}"
    with SystemLogger(root.observe, terminal_level="warning") as logger:
        try:
            with TemporaryDirectory(prefix="corelane-archive-") as folder:
                files[CONFIG_NAME] = Path(folder) / CONFIG_NAME
                files[CONFIG_NAME].write_text(_public_text(root), encoding="utf-8")
                archive_of(root.machine, logger).keep_files(RUNS, name, "run", files)
        except OSError as error:  # this machine's disk: the run is whole all the same
            logger.data.warning("cache_not_kept", directory=str(directory), reason=str(error))


def archive_package(path: Path, root: RootConfig) -> None:
    """Copy a published package. Its name in the archive has its digest: other projects may use the same name."""
    if root.machine.cache_shared is None:
        return
    name = f"{path.parent.name}-{path.name}-{file_digest(path / MANIFEST)}"
    with SystemLogger(root.observe, terminal_level="warning") as logger:
        archive_of(root.machine, logger).keep(PACKAGES, name, path)


def _public_text(root: RootConfig) -> str:
    values = public_config(root.model_dump(mode="json"))
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
