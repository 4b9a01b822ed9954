"""What is behind `corelane runs list|show|compare|lineage|reindex`: questions to the metadata store, as plain dicts.

The store is an index; every question first takes in what the folder of runs has and the index lacks, so that an
answer is right even if nothing was recorded. Where the index cannot be used, the answer comes from the directories
alone, and a note says so. `catalogue_text.py` shows the answers on a terminal. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from corelane.app.catalogue_answers import (
    brief_of,
    data_of,
    differences,
    flat,
    history_of,
    package_of,
    serving_of,
    table,
)
from corelane.app.catalogue_index import PACKAGES, level_index, open_store, take_in_packages, take_in_runs
from corelane.app.recording import STALE, read_servings
from corelane.app.replay import read_certificate
from corelane.app.run_records import run_key
from corelane.app.runs import CONFIG_NAME
from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import ConfigError, NotFoundError
from corelane.core.types import JsonObject

if TYPE_CHECKING:
    from corelane.store.metadata import MetadataStore
    from corelane.store.metadata_records import PackageRecord, RunRecord

MAX_RUNS_SHOWN = 50


def list_runs(
    runs: Path,
    name: str | None = None,
    *,
    limit: int = MAX_RUNS_SHOWN,
    url: str | None = None,
    clock: Clock | None = None,
) -> JsonObject:
    """The newest `limit` runs, those of the configuration's name `name` only, where given: `runs` and `notes`.

    `runs` is the folder they lie in, `url` the index if it lies elsewhere. A run whose process is gone is
    "interrupted". Raises `ConfigError` when there is no such folder.
    """
    with level_index(runs, url, _now(clock)) as (store, notes):
        found = store.runs(name, limit=limit)
        return {"runs": [brief_of(run, _now(clock)) for run in found], "notes": notes}


def show_run(
    run: Path | str, *, runs: Path | None = None, url: str | None = None, clock: Clock | None = None
) -> JsonObject:
    """Everything known of one run: configuration, data set, metrics (first, last, best), checkpoints, packages.

    `run` is a run's directory, or its name in the folder `runs`. Raises `NotFoundError` when it is none.
    """
    folder, name = _place(run, runs)
    with level_index(folder, url, _now(clock), packages=folder.parent / PACKAGES) as (store, notes):
        found = _find(store, name, folder)
        return {
            **brief_of(found, _now(clock)),
            "host": found.host,
            "seed": found.seed,
            "config_digest": found.config_digest,
            "pipeline_digest": found.pipeline_digest,
            "num_rejected": found.num_rejected,
            "best_step": found.best_step,
            "examples_per_s": found.examples_per_s,
            "seconds": dict(found.seconds),
            "data": data_of(store, found),
            "config": dict(found.config),
            "history": history_of(store, found),
            "checkpoints": [asdict(checkpoint) for checkpoint in store.checkpoints(found.key)],
            "packages": [package_of(package) for package in store.packages(run=found.key)],
            "resume_certificate": read_certificate(Path(found.directory)),
            "notes": notes,
        }


def compare_runs(
    names: Sequence[Path | str], *, runs: Path | None = None, url: str | None = None, clock: Clock | None = None
) -> JsonObject:
    """Runs side by side: `runs`, and by key one value per run under `config` (what differs), `data` and `metrics`.

    Raises `ConfigError` for fewer than two runs, or runs of different folders; `NotFoundError` for one that is none.
    """
    places = [_place(name, runs) for name in names]
    if len(places) < 2 or len({folder for folder, _ in places}) > 1:
        raise ConfigError(
            f"runs to compare must be two or more of one folder, got {[str(name) for name in names]}; name two"
        )
    with level_index(places[0][0], url, _now(clock)) as (store, notes):
        found = [_find(store, name, folder) for folder, name in places]
        data = [data_of(store, run) or {} for run in found]
        return {
            "runs": [brief_of(run, _now(clock)) for run in found],
            "config": differences([flat(run.config) for run in found]),
            "data": {
                "fingerprint": [facts.get("fingerprint") for facts in data],
                "pipeline_digest": [run.pipeline_digest for run in found],
                "num_rejected": [run.num_rejected for run in found],
            },
            "metrics": table([dict(run.metrics) for run in found]),
            "notes": notes,
        }


def lineage(
    of: Path | str,
    *,
    runs: Path | None = None,
    packages: Path | None = None,
    url: str | None = None,
    clock: Clock | None = None,
) -> JsonObject:
    """Where a run or a package comes from and what became of it: source, data set, run, checkpoint, packages, servings.

    `of` is a run (directory or name), or a package: its directory, `name/version`, or `name` for all its versions.
    Each package names the checkpoint it was made of and who served it since when. Raises `NotFoundError`.
    """
    package = _package_path(of)
    folder, name = _place(of, runs) if package is None else (runs if runs is not None else Path("runs"), package[1])
    places = packages or (folder.parent / PACKAGES if package is None else package[0])
    with level_index(folder, url, _now(clock), packages=places) as (store, notes):
        run, published = _chain(store, folder, name)
        return {
            "source": None if run is None else (data_of(store, run) or {}).get("source"),
            "data": None if run is None else data_of(store, run),
            "run": None if run is None else brief_of(run, _now(clock)),
            "checkpoints": [] if run is None else [asdict(found) for found in store.checkpoints(run.key)],
            "packages": [
                {**package_of(one), "servings": [serving_of(serving) for serving in store.servings(one.digest)]}
                for one in published
            ],
            "notes": notes,
        }


def reindex(
    runs: Path, packages: Path | None = None, *, url: str | None = None, clock: Clock | None = None
) -> JsonObject:
    """Make the index of the folders `runs` and `packages` anew from what lies in them: `num_runs`, `num_packages`.

    Without `packages`, that beside `runs` is meant. Directories that are broken are left out and told under `problems`;
    what the index knows of other folders and hosts stays. Raises `ConfigError` when `runs` is no folder,
    `TransientError` when the index cannot be written.
    """
    problems: list[str] = []
    store = open_store(runs, url, problems)
    try:
        num_runs = take_in_runs(store, runs, problems, _now(clock), everything=True)
        num_packages = take_in_packages(store, packages or runs.parent / PACKAGES, problems)
        store.write(read_servings(runs))
    finally:
        store.close()
    (runs / STALE).unlink(missing_ok=True)
    return {"num_runs": num_runs, "num_packages": num_packages, "problems": problems}


# --- finding ----------------------------------------------------------------------------------------------------------


def _place(run: Path | str, runs: Path | None) -> tuple[Path, str]:
    """The folder of a run and its name in it."""
    path = Path(run)
    if runs is None and (path / CONFIG_NAME).is_file():
        path = path.resolve()
        return path.parent, path.name
    return (runs if runs is not None else Path("runs")), str(run)


def _find(store: MetadataStore, name: str, folder: Path) -> RunRecord:
    found = _run_of(store, name, folder)
    if found is None:
        raise NotFoundError(f"the run must be one of {folder}, got {name!r}; `corelane runs list` shows them")
    return found


def _run_of(store: MetadataStore, name: str, folder: Path) -> RunRecord | None:
    """The run `name` of `folder`; in a shared index another folder, or host, may have one of that name too."""
    is_here = (folder / name / CONFIG_NAME).is_file()
    return store.run(run_key(folder / name) if is_here else name)


def _package_path(of: Path | str) -> tuple[Path, str] | None:
    """The folder of packages and `name/version` in it, when `of` is a package's directory."""
    path = Path(of)
    if not (path / "package.json").is_file():
        return None
    path = path.resolve()
    return path.parent.parent, f"{path.parent.name}/{path.name}"


def _chain(store: MetadataStore, folder: Path, name: str) -> tuple[RunRecord | None, Sequence[PackageRecord]]:
    """The run that `name` names with its packages, or the packages that it names with the run of the newest."""
    if (run := _run_of(store, name, folder)) is not None:
        return run, store.packages(run=run.key)
    title, _, version = name.partition("/")
    published = [one for one in store.packages(title) if version in ("", str(one.version))]
    if not published:
        raise NotFoundError(
            f"lineage must be asked of a run in {folder} or of a package, got {name!r}; "
            "`corelane runs list` shows the runs"
        )
    key = published[-1].run
    return (store.run(key) if key is not None else None), published


def _now(clock: Clock | None) -> float:
    return (clock or SystemClock()).now()
