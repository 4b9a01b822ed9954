"""`corelane plan`: where plans lie, and what is in them as data. Text is made of them in `plans_text.py`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from corelane.app.config import cache_directory, load_root
from corelane.app.package_paths import resolve_package
from corelane.app.planned import plan_key
from corelane.app.runs import find_run
from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import ConfigError
from corelane.core.types import JsonObject
from corelane.machine.cpu import Machine
from corelane.model.candidate import OBJECTIVES
from corelane.model.candidate import Candidate as ServingCandidate
from corelane.model.description import DESCRIPTION
from corelane.model.package import ModelPackage, versions_of
from corelane.store.plan_cache import FOLDER, read_plan
from corelane.train.plan import FILE, Candidate, candidate_of

DAY_S = 86_400.0
CONFIGS = {".yaml", ".yml"}


def show(what: str | None = None, *, runs: Path = Path("runs"), cache: Path | None = None) -> JsonObject:
    """The plan that `what` names: a run (its folder or name), a configuration (its newest run), a file, the key of a
    plan in the cache, or a package, which has one for latency and one for throughput. Without it, that of the newest
    run in `runs`.

    Raises `ConfigError` when there is none, `StateError` when it cannot be read.
    """
    if what is not None and is_package(Path(what)):
        return {"package": what, "plans": {name: _shown(path) for name, path in _of_package(what, cache).items()}}
    return _shown(_find(what, runs, cache))


def compare(one: str, other: str, *, runs: Path = Path("runs"), cache: Path | None = None) -> JsonObject:
    """Two plans side by side: what each chose, in what the choices differ, and the time of each candidate in both.

    Raises what `show` raises, and `ConfigError` for a package, which has two plans: give their keys.
    """
    plans = [show(what, runs=runs, cache=cache) for what in (one, other)]
    for what, plan in zip((one, other), plans, strict=True):
        if "plans" in plan:
            keys = ", ".join(f"{name} {found['key']}" for name, found in plan["plans"].items())
            raise ConfigError(f"a plan must be named to be compared, got the package {what} with {keys}; give a key")
    times = [{trial["name"]: trial["step_s"] for trial in plan["candidates"]} for plan in plans]
    chosen = [plan["chosen"] for plan in plans]
    return {
        "plans": [{key: plan[key] for key in ("file", "key", "chosen_name", "reason")} for plan in plans],
        "differs": {
            name: [values.get(name) for values in chosen]
            for name in dict.fromkeys([*chosen[0], *chosen[1]])
            if chosen[0].get(name) != chosen[1].get(name)
        },
        "candidates": {name: [values.get(name) for values in times] for name in dict.fromkeys([*times[0], *times[1]])},
    }


def clear(
    package: str | None = None, *, older_than_days: float = 0.0, cache: Path | None = None, clock: Clock | None = None
) -> JsonObject:
    """Remove plans from the cache: those of `package`, or all, that were made so many days ago or earlier.

    A run keeps its own `plan.json`. Returns how many were removed and how many are left.
    """
    folder, now = _folder(cache), (clock or SystemClock()).now()
    kept = set(folder.glob("*.json"))
    chosen = kept if package is None else set(_of_package(package, cache).values())
    removed = {path for path in chosen if now - path.stat().st_mtime >= older_than_days * DAY_S}
    for path in removed:
        path.unlink(missing_ok=True)
    return {"cache": str(folder), "removed": len(removed), "left": len(kept - removed)}


def is_package(path: Path) -> bool:
    """Whether `path` is a package's version, or holds versions of one."""
    return (path / DESCRIPTION).is_file() or bool(versions_of(path))


def planned_environment(directory: Path, mode: str) -> dict[str, str]:
    """The settings of the process under which the plan of the run in `directory` was made.

    Without a plan yet, those of the file that `mode` (`machine.plan`) names, if it does.
    """
    path = next((path for path in (directory / FILE, Path(mode)) if path.is_file()), None)
    return {} if path is None else dict(read_plan(path, candidate_of).environment)


def _shown(path: Path) -> JsonObject:
    plan = read_plan(path, _any_candidate)
    candidates = [{**asdict(trial), "name": str(trial.candidate)} for trial in plan.candidates]
    return {**plan.to_json(), "file": str(path), "chosen_name": str(plan.chosen), "candidates": candidates}


def _any_candidate(**fields: Any) -> ServingCandidate | Candidate:
    """Of serving, which names a library, or of training."""
    return ServingCandidate(**fields) if "runtime" in fields else candidate_of(**fields)


def _of_package(package: str, cache: Path | None) -> dict[str, Path]:
    """The files of a package's plans on this machine, by objective."""
    opened, machine = ModelPackage.load(resolve_package(package)), Machine.detect()
    paths: dict[str, Path] = {
        name: _folder(cache) / f"{plan_key(opened.digest, name, machine)}.json" for name in OBJECTIVES
    }
    found = {name: path for name, path in paths.items() if path.is_file()}
    if not found:
        raise ConfigError(
            f"{opened.path} must have plans on this machine, got none in {_folder(cache)}; run `corelane optimize`"
        )
    return found


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
