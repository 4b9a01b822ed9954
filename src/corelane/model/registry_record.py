"""What a registry knows of one model beside its packages: aliases, what is archived, what is to be removed.

A record is a value: each change gives another record, and whoever stores it decides which of two changes was first.
Nothing is read or written here, and times are arguments. docs/registry.md has the format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection

from pydantic import Field, ValidationError

from corelane.core.config import Section
from corelane.core.errors import ConfigError, NotFoundError, RegistryError

FORMAT_VERSION = 1
MAX_RECORD_BYTES = 1 << 20  # 10,000 marked versions and 100 aliases take less
MAX_HISTORY = 20  # how often an alias can be rolled back
CHAMPION = "champion"
"""The alias that serves unless another is named."""

CHALLENGER = "challenger"
ALIAS = r"^[a-z][a-z0-9_-]{0,31}$"


class Alias(Section):
    """The version that an alias names, since when, and what it named before, the latest last."""

    version: int = Field(ge=1)
    since_s: float
    before: tuple[int, ...] = ()


class Deletion(Section):
    """When a version may be removed; `is_going`: that has begun, and cannot be taken back."""

    due_s: float
    is_going: bool = False


class Record(Section):
    """The content of a record's file. Times are seconds since the Unix epoch."""

    format_version: int = FORMAT_VERSION
    aliases: dict[str, Alias] = Field(default_factory=dict)
    archived: dict[int, float] = Field(default_factory=dict)
    deleted: dict[int, Deletion] = Field(default_factory=dict)

    # --- reading ------------------------------------------------------------------------------------------------------

    def is_offered(self, version: int) -> bool:
        """Whether an alias may name `version`: it is neither archived nor marked for removal."""
        return version not in self.archived and version not in self.deleted

    def alias(self, name: str) -> Alias:
        """The alias of that name. Raises `NotFoundError` when there is none."""
        if name not in self.aliases:
            known = ", ".join(sorted(self.aliases)) or "none"
            raise NotFoundError(f"the alias must be one that is set ({known}), got {name!r}; set it by promoting")
        return self.aliases[name]

    def names_of(self, version: int) -> list[str]:
        """The aliases that name `version`."""
        return sorted(name for name, alias in self.aliases.items() if alias.version == version)

    # --- changing -----------------------------------------------------------------------------------------------------

    def promoted(self, name: str, version: int, now_s: float) -> Record:
        """With the alias `name` for `version`. Raises `ConfigError` for a version that is not offered."""
        check_alias(name)
        self._check_offered(version)
        former = self.aliases.get(name)
        if former is None:
            return self._with_alias(name, Alias(version=version, since_s=now_s))
        if former.version == version:
            return self
        before = (*former.before, former.version)[-MAX_HISTORY:]
        return self._with_alias(name, Alias(version=version, since_s=now_s, before=before))

    def rolled_back(self, name: str, present: Collection[int], now_s: float) -> Record:
        """With the alias `name` for the last of what it named before that is `present` and offered.

        Raises `NotFoundError` for an alias that is not set, `ConfigError` when there is nothing to go back to.
        """
        alias = self.alias(name)
        for index in reversed(range(len(alias.before))):
            version = alias.before[index]
            if version in present and self.is_offered(version) and version != alias.version:
                return self._with_alias(name, Alias(version=version, since_s=now_s, before=alias.before[:index]))
        raise ConfigError(
            f"the alias {name} must have named another version that is still there, got none; promote one"
        )

    def without_alias(self, name: str) -> Record:
        """Without the alias `name`. Raises `NotFoundError` when it is not set."""
        self.alias(name)
        return self.model_copy(update={"aliases": {key: one for key, one in self.aliases.items() if key != name}})

    def with_archived(self, version: int, now_s: float) -> Record:
        """With `version` kept but not offered any more. Raises `ConfigError` while an alias names it."""
        self._check_unnamed(version, "archived")
        self._check_stays(version)
        return self.model_copy(update={"archived": {version: now_s, **self.archived}})

    def with_deleted(self, version: int, due_s: float) -> Record:
        """With `version` to be removed at `due_s`. Raises `ConfigError` while an alias names it."""
        self._check_unnamed(version, "deleted")
        self._check_stays(version)
        return self.model_copy(update={"deleted": {**self.deleted, version: Deletion(due_s=due_s)}})

    def restored(self, version: int) -> Record:
        """With `version` offered again. Raises `ConfigError` when its removal has begun."""
        self._check_stays(version)
        return self.model_copy(
            update={
                "archived": {key: at_s for key, at_s in self.archived.items() if key != version},
                "deleted": {key: one for key, one in self.deleted.items() if key != version},
            }
        )

    def due(self, now_s: float) -> list[int]:
        """The versions that may be removed at `now_s`, or whose removal has begun."""
        return sorted(version for version, one in self.deleted.items() if one.is_going or one.due_s <= now_s)

    def going(self, versions: Collection[int]) -> Record:
        """With those of `versions` that are marked past taking back."""
        marked = {version: self.deleted[version] for version in versions if version in self.deleted}
        gone = {version: one.model_copy(update={"is_going": True}) for version, one in marked.items()}
        return self.model_copy(update={"deleted": {**self.deleted, **gone}})

    def gone(self, versions: Collection[int]) -> Record:
        """Without those of `versions` that were removed."""
        return self.model_copy(
            update={
                "archived": {key: at_s for key, at_s in self.archived.items() if key not in versions},
                "deleted": {key: one for key, one in self.deleted.items() if key not in versions or not one.is_going},
            }
        )

    def _with_alias(self, name: str, alias: Alias) -> Record:
        return self.model_copy(update={"aliases": {**self.aliases, name: alias}})

    def _check_offered(self, version: int) -> None:
        if not self.is_offered(version):
            state = "archived" if version in self.archived else "marked for removal"
            raise ConfigError(f"a version must be offered to be promoted, got {version}, which is {state}; restore it")

    def _check_unnamed(self, version: int, what: str) -> None:
        names = self.names_of(version)
        if names:
            raise ConfigError(
                f"a version must have no alias to be {what}, got {version}, which is {', '.join(names)}; "
                "promote another first"
            )

    def _check_stays(self, version: int) -> None:
        if version in self.deleted and self.deleted[version].is_going:
            raise ConfigError(f"a version must not be on its way out, got {version}, which is being removed")


def check_alias(name: str) -> str:
    """`name`, if it can be an alias. Raises `ConfigError`."""
    if re.fullmatch(ALIAS, name) is None:
        raise ConfigError(
            "an alias must be 1 to 32 lower-case letters, digits, _ and - that start with a letter, "
            f"got {name[:80]!r}; choose another"
        )
    return name


def write_record(record: Record) -> bytes:
    """A record as readable JSON."""
    return (json.dumps(record.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()


def parse_record(data: bytes, name: str) -> Record:
    """What `write_record` wrote; `name` is the file's, for messages. Raises `RegistryError` for anything else."""
    advice = "restore it from a copy, or remove it: the record before it then counts"
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"{name} must be a registry's record as JSON, got something else; {advice}") from error
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise RegistryError(
            f"{name} must have format_version {FORMAT_VERSION}, got {version!r:.40}; "
            "use the release of Corelane that wrote it"
        )
    try:
        record = Record.model_validate(values)
        for alias in record.aliases:
            check_alias(alias)
    except (ValidationError, ConfigError) as error:
        raise RegistryError(
            f"{name} must be a registry's record, got one that is not; {advice}", detail=str(error)
        ) from error
    return record
