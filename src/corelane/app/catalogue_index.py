"""The metadata store brought level with the folders it indexes, for whoever asks it (`app/catalogue.py`).

What the folders hold and the index lacks is taken in, what is gone is forgotten. Broken directories are told and left
out. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corelane.app.package_records import read_package
from corelane.app.record_files import BROKEN
from corelane.app.recording import STALE, metadata_url, read_servings
from corelane.app.run_records import HOST, RunReader, state_of
from corelane.app.runs import CONFIG_NAME
from corelane.core.errors import ConfigError, CorelaneError
from corelane.store.metadata_records import PackageRecord, Record, RunRecord, stored_text

if TYPE_CHECKING:
    from corelane.store.metadata import MetadataStore

PACKAGES = "packages"  # beside the folder of runs, unless the caller names another


@contextmanager
def level_index(
    runs: Path, url: str | None, now_s: float, *, packages: Path | None = None
) -> Iterator[tuple[MetadataStore, list[str]]]:
    """The store with what `runs` and `packages` hold taken in, and what there is to tell.

    Where the index cannot be used, a store in memory takes its place. Raises `ConfigError` when `runs` is no folder.
    """
    notes: list[str] = []
    if (runs / STALE).exists():
        notes.append("the index has gaps, some records were lost; run `corelane runs reindex`")
    store = open_store(runs, url, notes)
    try:
        _level(store, runs, packages, notes, now_s)
    except CorelaneError as error:
        store.close()
        notes.append(f"answered from the directories alone: {error.message}")
        store = open_store(runs, "sqlite://", notes)
        _level(store, runs, packages, notes, now_s)
    try:
        yield store, notes
    finally:
        store.close()


def open_store(runs: Path, url: str | None, notes: list[str]) -> MetadataStore:
    """The store at `url`, or the one in the folder `runs`. Raises `ConfigError` when that is no folder."""
    from corelane.store.metadata import MetadataStore  # noqa: PLC0415 - SQLAlchemy

    if not runs.is_dir():
        raise ConfigError(f"{runs} must be the folder of runs, got none; train first, or name it with --runs")
    return MetadataStore(metadata_url(url, runs), tell=lambda event, fields: notes.append(_told(event, fields)))


def take_in_runs(store: MetadataStore, runs: Path, notes: list[str], now_s: float, *, everything: bool = False) -> int:
    """Write the runs that the index lacks or knows in another state (or `everything`), forget those that are gone.

    Returns how many the folder holds.
    """
    known = {run.directory: run for run in store.runs() if run.host == HOST}
    kept: set[str] = set()
    for directory in sorted(path for path in runs.iterdir() if (path / CONFIG_NAME).is_file()):
        found = _read(directory, None if everything else known.get(_stored(directory)), kept, notes, now_s)
        if found is not None:
            key, records = found
            store.write(records, forget=[key] if everything else ())
            kept.add(key)
    gone = [run.key for path, run in known.items() if run.key not in kept and _is_gone(path, runs)]
    if gone:
        store.forget(runs=gone)
    return len(kept)


def take_in_packages(store: MetadataStore, packages: Path, notes: list[str]) -> int:
    """Write the packages that the index lacks, forget those that are gone; how many the folder holds."""
    known = {package.directory: package for package in store.packages() if package.host == HOST}
    found: list[PackageRecord] = []
    for path in sorted(packages.glob("[!.]*/[0-9]*")):
        try:
            found.append(read_package(path))
        except BROKEN as error:
            notes.append(f"{path} is left out: {error}")
    store.write([package for package in found if known.get(package.directory) != package])
    digests = {package.digest for package in found}
    gone = [one.digest for path, one in known.items() if one.digest not in digests and _is_gone(path, packages)]
    if gone:
        store.forget(packages=gone)
    return len(found)


def _level(store: MetadataStore, runs: Path, packages: Path | None, notes: list[str], now_s: float) -> None:
    take_in_runs(store, runs, notes, now_s)
    if packages is not None:
        take_in_packages(store, packages, notes)
        store.write(read_servings(runs))


def _read(
    directory: Path, known: RunRecord | None, kept: set[str], notes: list[str], now_s: float
) -> tuple[str, list[Record]] | None:
    """Key and records of a run; no records for one that the index knows as it is; None, and told, for a broken one."""
    try:
        if known is not None and known.status != "running" and (known.status, known.finished_s) == state_of(directory):
            return known.key, []
        reader = RunReader(directory)
        if reader.key in kept:
            notes.append(f"{directory} is left out: a copy of another run of this folder")
            return None
        records = reader.read(now_s)
    except BROKEN as error:
        notes.append(f"{directory} is left out: {error if isinstance(error, CorelaneError) else repr(error)}")
        return None
    notes += reader.problems
    return reader.key, records


def _stored(directory: Path) -> str:
    return stored_text(str(directory.absolute()))


def _is_gone(directory: str, folder: Path) -> bool:
    """Whether a record's directory is no more, or lies in `folder`, where it was not found whole just now."""
    return not Path(directory).exists() or Path(directory).is_relative_to(folder.absolute())


def _told(event: str, fields: Mapping[str, Any]) -> str:
    return f"{event.replace('_', ' ')}: " + ", ".join(f"{name} {value}" for name, value in fields.items())
