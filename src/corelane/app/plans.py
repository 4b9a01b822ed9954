"""`corelane plan show`: where a plan lies, and its candidates as data. Text is made of them in `plans_text.py`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from corelane.app.config import cache_directory, load_root
from corelane.app.runs import find_run
from corelane.core.errors import ConfigError
from corelane.core.types import JsonObject
from corelane.train.plan import FILE, read_plan
from corelane.train.plan_cache import FOLDER

CONFIGS = {".yaml", ".yml"}


def show(what: str | None = None, *, runs: Path = Path("runs"), cache: Path | None = None) -> JsonObject:
    """The plan that `what` names: a run (its folder or name), a configuration (its newest run), a file, or the key of a
    plan in the cache. Without it, that of the newest run in `runs`.

    Raises `ConfigError` when there is none, `StateError` when it cannot be read.
    """
    path = _find(what, runs, cache)
    plan = read_plan(path)
    candidates = [{**asdict(trial), "name": str(trial.candidate)} for trial in plan.candidates]
    return {**plan.to_json(), "file": str(path), "chosen_name": str(plan.chosen), "candidates": candidates}


def planned_environment(directory: Path, mode: str) -> dict[str, str]:
    """The settings of the process under which the plan of the run in `directory` was made.

    Without a plan yet, those of the file that `mode` (`machine.plan`) names, if it does.
    """
    path = next((path for path in (directory / FILE, Path(mode)) if path.is_file()), None)
    return {} if path is None else dict(read_plan(path).environment)


def _find(what: str | None, runs: Path, cache: Path | None) -> Path:
    if what is None:
        return _newest(runs)
    path = Path(what)
    if path.suffix in CONFIGS:
        return _of_config(path, runs)
    kept = sorted(_folder(cache).glob(f"{what}*.json")) if what.isalnum() else []
    for found in (path / FILE, path, runs / what / FILE, *kept):
        if found.is_file():
            return found
    raise ConfigError(
        f"a plan must be named by a run, a configuration, a file or a key, got {what!r}, which is none of them; "
        "`corelane runs list` shows the runs"
    )


def _newest(runs: Path) -> Path:
    paths = sorted(runs.glob(f"*/{FILE}"), key=lambda path: path.stat().st_mtime)
    if not paths:
        raise ConfigError(f"{runs} must hold a run with a plan, got none; train first, or name a plan")
    return paths[-1]


def _of_config(config: Path, runs: Path) -> Path:
    name = load_root(config).name
    directory = find_run(runs, name)
    if directory is None or not (directory / FILE).is_file():
        raise ConfigError(f"{config} must have been trained in {runs}, got no run named {name}; train it first")
    return directory / FILE


def _folder(cache: Path | None) -> Path:
    return (cache if cache is not None else cache_directory()) / FOLDER
