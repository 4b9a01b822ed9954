"""`ModelManager`: a registry of models, on disk or at any fsspec URL: versions, and the aliases that say which serves.

    <registry>/<name>/<version>/               a package, as `write_package` publishes it; never changed
    <registry>/<name>/record/<revision>.json   aliases and marks; the highest revision counts

A folder of packages is a registry without aliases. A change is a new revision, made only if nobody else has made that
one (then it is decided anew on theirs), so a reader sees a whole record and two writers never lose each other's
changes. docs/registry.md has the format; `registry_record.py` the rules of aliases, `store/places/` the storage.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import NotFoundError
from corelane.model.card import render_card
from corelane.model.description import (
    DESCRIPTION,
    MAX_DESCRIPTION_BYTES,
    NAME,
    Description,
    check_name,
    parse_description,
    read_description,
    write_description,
)
from corelane.model.package import CARD, KIND, ModelPackage
from corelane.model.registry_record import CHAMPION, MAX_RECORD_BYTES, Record, check_alias, parse_record, write_record
from corelane.store.bundle import MANIFEST, MAX_MANIFEST_BYTES, manifest_files, write_bundle
from corelane.store.places.opening import place_of
from corelane.store.places.place import Place

RECORD = "record"
KEPT_REVISIONS = 50  # what happened lately can be read off them
GRACE_S = 7 * 86_400.0  # between a deletion and the removal: a week in which it can be taken back

_VERSION = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Choice:
    """What a reference stands for now: a version, and what may stand in for it, best first (what it stood for before).

    `since_s` is when the alias was set; 0 for a version that was named by its number.
    """

    name: str
    version: int
    since_s: float = 0.0
    stand_ins: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Reference:
    """`name@label`: a model, and the alias or the number of a version."""

    name: str
    label: str = CHAMPION

    @classmethod
    def parse(cls, text: str) -> Reference:
        """`NAME` (its champion), `NAME@ALIAS` or `NAME@VERSION`. Raises `ConfigError` for what cannot be one."""
        name, sign, label = text.partition("@")
        check_name(name)
        if not sign:
            return cls(name)
        return cls(name, label if _VERSION.fullmatch(label) else check_alias(label))

    @property
    def version(self) -> int | None:
        """The version, where it is named by its number."""
        return int(self.label) if self.label.isdecimal() else None

    def __str__(self) -> str:
        return f"{self.name}@{self.label}"


class ModelManager:
    """Owns the registry at `url` (a directory or an fsspec URL) and nothing else.

    `options` are those of the URL's driver. Methods may be called from several threads and processes at once. Raises
    `NotFoundError` for a model, version or alias that is not there, `RegistryError` for a record that cannot be read,
    `ConfigError` for a name that cannot be one, and what the storage raises.
    """

    def __init__(
        self, url: str | Path, *, options: Mapping[str, Any] | None = None, clock: Clock | None = None
    ) -> None:
        self.place: Place = place_of(url, options)
        self._clock = clock or SystemClock()

    # --- asking -------------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """The models that have a version, sorted."""
        return [name for name in self.place.names() if re.fullmatch(NAME, name) and self.versions(name)]

    def versions(self, name: str) -> list[int]:
        """The whole versions of the model, ascending; those marked or archived are among them."""
        numbers = self._numbers(check_name(name))
        return [version for version in numbers if self._manifest(name, version) is not None]

    def record(self, name: str) -> Record:
        """Aliases and marks of the model; an empty record where nothing was ever said of it."""
        return self._newest(check_name(name))[1]

    def describe(self, name: str, version: int) -> tuple[Description, str, int]:
        """What the package says about itself, its digest, and its bytes. Raises `BundleError` when that is broken."""
        manifest = self._manifest(name, version)
        if manifest is None:
            raise self.absent(name, version)
        files = manifest_files(manifest)
        content = self.place.read(f"{name}/{version}/{DESCRIPTION}", MAX_DESCRIPTION_BYTES) or b""
        description = parse_description(content, Path(f"{self.place.url}/{name}/{version}/{DESCRIPTION}"))
        return description, sha256(manifest).hexdigest(), sum(file.size for file in files.values())

    def choose(self, reference: Reference) -> Choice:
        """The version that `reference` names now."""
        name = reference.name
        if reference.version is not None:
            if self._manifest(name, reference.version) is None:
                raise self.absent(name, reference.version)
            return Choice(name, reference.version)
        record = self._newest(name)[1]
        if not record.aliases and not self.versions(name):
            raise self.absent(name)
        alias = record.alias(reference.label)
        stand_ins = dict.fromkeys(
            version for version in reversed(alias.before) if version != alias.version and record.is_offered(version)
        )
        return Choice(name, alias.version, alias.since_s, tuple(stand_ins))

    def fetch(self, name: str, version: int, folder: Path) -> Path:
        """The package as a local directory: where it lies, or a copy in `folder`/<name>/<version>, which may be there.

        Not verified: `ModelPackage.load` does that. Raises `BundleError` when there is none.
        """
        return self.place.fetch(f"{check_name(name)}/{version}", folder / name / str(version))

    def absent(self, name: str, version: int | None = None) -> NotFoundError:
        """The error for a model or version that is not here."""
        what = f"{name} version {version}" if version is not None else name
        return NotFoundError(f"{what} must be in the registry {self.place.url}, got nothing there; publish it first")

    # --- changing -----------------------------------------------------------------------------------------------------

    def publish(self, package: Path, *, alias: str | None = None) -> tuple[str, int]:
        """Add the package at `package`; its name and version here. With `alias` that names it then.

        It must load and answer its golden rows. It keeps its number if no higher one is taken, else it gets the next;
        one that is here already stays what it is. Raises `BundleError`, `GoldenError`, `DiskFullError`.
        """
        if alias is not None:
            check_alias(alias)
        opened = ModelPackage.load(package)
        with opened.predictor() as predictor:
            opened.check_golden(predictor)
        version = self._find(opened.name, opened.digest) or self._put(opened)
        if alias is not None:
            self.promote(opened.name, version, alias=alias)
        self.remove_due(opened.name)
        return opened.name, version

    def promote(self, name: str, version: int, *, alias: str = CHAMPION) -> Record:
        """Have `alias` name `version`; it remembers what it named before. The new record."""
        if self._manifest(check_name(name), version) is None:
            raise self.absent(name, version)
        return self._change(name, lambda record: record.promoted(alias, version, self._clock.now()))

    def rollback(self, name: str, *, alias: str = CHAMPION) -> Record:
        """Have `alias` name what it named before. Raises `ConfigError` when there is nothing to go back to."""
        present = self.versions(name)
        return self._change(name, lambda record: record.rolled_back(alias, present, self._clock.now()))

    def unset(self, name: str, alias: str) -> Record:
        """Take the alias away; no version is changed."""
        return self._change(check_name(name), lambda record: record.without_alias(alias))

    def archive(self, name: str, version: int) -> Record:
        """Keep `version` but offer it no more. Raises `ConfigError` while an alias names it."""
        self._check_present(name, version)
        return self._change(name, lambda record: record.with_archived(version, self._clock.now()))

    def delete(self, name: str, version: int, *, grace_s: float = GRACE_S) -> Record:
        """Mark `version` to be removed after `grace_s`; until then `restore` takes it back.

        It goes with the first change after that. The highest version stays as long as it is that, so that its number is
        never given again. Raises `ConfigError` while an alias names it.
        """
        self._check_present(name, version)
        self._change(name, lambda record: record.with_deleted(version, self._clock.now() + grace_s))
        self.remove_due(name)
        return self.record(name)

    def restore(self, name: str, version: int) -> Record:
        """Offer `version` again, which was archived or marked. Raises `ConfigError` when its removal has begun."""
        self._check_present(name, version)
        return self._change(name, lambda record: record.restored(version))

    def remove_due(self, name: str) -> list[int]:
        """Remove the versions whose time has come; which those were. What a killed process had begun is ended."""
        highest = max(self._numbers(check_name(name)), default=0)

        def due(record: Record) -> list[int]:
            return [version for version in record.due(self._clock.now()) if version != highest]

        if not due(self.record(name)):
            return []
        record = self._change(name, lambda record: record.going(due(record)))
        removed = [version for version, one in record.deleted.items() if one.is_going]
        for version in removed:
            self.place.remove(f"{name}/{version}")
        self._change(name, lambda record: record.gone(removed))
        return removed

    # --- versions -----------------------------------------------------------------------------------------------------

    def _numbers(self, name: str) -> list[int]:
        """The numbers that are taken, of unfinished versions too."""
        return sorted(int(entry) for entry in self.place.names(name) if _VERSION.fullmatch(entry))

    def _manifest(self, name: str, version: int) -> bytes | None:
        return self.place.read(f"{name}/{version}/{MANIFEST}", MAX_MANIFEST_BYTES)

    def _find(self, name: str, digest: str) -> int | None:
        """The version with this digest, unless it is on its way out."""
        record = self.record(name)
        for version in reversed(self._numbers(name)):
            manifest = self._manifest(name, version)
            if manifest is not None and sha256(manifest).hexdigest() == digest and version not in record.deleted:
                return version
        return None

    def _put(self, package: ModelPackage) -> int:
        while True:
            version = max(package.version, max(self._numbers(package.name), default=0) + 1)
            with tempfile.TemporaryDirectory(prefix="corelane-publish-") as folder:
                bundle = package.path if version == package.version else _renumbered(package, version, Path(folder))
                if self.place.put(f"{package.name}/{version}", bundle):
                    return version

    def _check_present(self, name: str, version: int) -> None:
        if self._manifest(check_name(name), version) is None:
            raise self.absent(name, version)

    # --- records ------------------------------------------------------------------------------------------------------

    def _revisions(self, name: str) -> list[int]:
        entries = (entry.removesuffix(".json") for entry in self.place.names(f"{name}/{RECORD}"))
        return sorted(int(entry) for entry in entries if _VERSION.fullmatch(entry))

    def _newest(self, name: str) -> tuple[int, Record]:
        while True:
            revision = max(self._revisions(name), default=0)
            if not revision:
                return 0, Record()
            path = _record_path(name, revision)
            data = self.place.read(path, MAX_RECORD_BYTES)
            if data is not None:  # else it has been cleared away since: there are newer ones
                return revision, parse_record(data, f"{self.place.url}/{path}")

    def _change(self, name: str, change: Callable[[Record], Record]) -> Record:
        """Store what `change` makes of the newest record; it is called again when another writer was faster."""
        while True:
            revision, record = self._newest(name)
            changed = change(record)
            if changed == record:
                return record
            path = _record_path(name, revision + 1)
            if not self.place.create(path, write_record(changed)):
                continue
            revisions = self._revisions(name)
            if max(revisions) < revision + KEPT_REVISIONS:
                self._clear(name, revisions)
                return changed
            # So many came since we looked that this number may have been taken, and cleared away again.
            self.place.remove(path)

    def _clear(self, name: str, revisions: list[int]) -> None:
        for old in revisions[:-KEPT_REVISIONS]:
            self.place.remove(_record_path(name, old))


def _record_path(name: str, revision: int) -> str:
    return f"{name}/{RECORD}/{revision}.json"


def _renumbered(package: ModelPackage, version: int, folder: Path) -> Path:
    """A copy of the package in `folder` that says it is `version`, with a manifest of its own."""
    target = folder / KIND
    with write_bundle(target, KIND) as path:
        for name in package.bundle.files:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(package.path / name, path / name)
        description = read_description(path / DESCRIPTION).model_copy(update={"version": version})
        write_description(path / DESCRIPTION, description)
        (path / CARD).write_text(render_card(description), "utf-8")
    return target
