"""What is behind `corelane models`: a registry's models, versions and aliases, as plain dicts.

`models_text.py` shows them on a terminal. The registry is a folder or a URL; what its driver needs comes from the
configuration `serve.registry_options`. Nothing here imports torch.
"""

from __future__ import annotations

from pathlib import Path

from corelane.app.config import load_root
from corelane.app.following import registry_options
from corelane.app.package_paths import resolve_package
from corelane.core.clock import Clock
from corelane.core.errors import BundleError
from corelane.core.types import JsonObject
from corelane.model.registry import GRACE_S, ModelManager
from corelane.model.registry_record import CHAMPION, Record


def open_registry(
    registry: str | None, *, config: Path | None = None, default: str = "packages", clock: Clock | None = None
) -> ModelManager:
    """The registry at `registry`, or the one that `config` names, or the folder `default`.

    Raises `ConfigError` for a URL that cannot be and for a configuration that is none.
    """
    root = load_root(config) if config is not None else None
    options = registry_options(root.serve.registry_options) if root is not None else {}
    url = registry or (root.serve.registry if root is not None else None) or default
    if config is not None and registry is None and "://" not in url:
        url = str(config.resolve().parent / url)
    return ModelManager(url, options=options, clock=clock)


def list_models(manager: ModelManager) -> JsonObject:
    """Each model with its versions and what its aliases name."""
    found = []
    for name in manager.names():
        record = manager.record(name)
        aliases = {alias: one.version for alias, one in sorted(record.aliases.items())}
        found.append({"name": name, "versions": manager.versions(name), "aliases": aliases})
    return {"registry": manager.place.url, "models": found}


def show(manager: ModelManager, name: str) -> JsonObject:
    """The model's versions, newest first, and its aliases with what they named before. Raises `NotFoundError`."""
    record = manager.record(name)
    versions = [_version(manager, record, name, version) for version in reversed(manager.versions(name))]
    if not versions:
        raise manager.absent(name)
    return {"registry": manager.place.url, "name": name, "versions": versions, "aliases": _aliases(record)}


def publish(manager: ModelManager, package: Path | str, *, alias: str | None = None) -> JsonObject:
    """Add a package (or the newest of a folder of versions, or that of a run) to the registry."""
    name, version = manager.publish(resolve_package(package), alias=alias)
    return _changed(manager, name, version=version)


def promote(manager: ModelManager, name: str, version: int, *, alias: str = CHAMPION) -> JsonObject:
    """Have an alias name another version."""
    manager.promote(name, version, alias=alias)
    return _changed(manager, name, alias=alias, version=version)


def rollback(manager: ModelManager, name: str, *, alias: str = CHAMPION) -> JsonObject:
    """Have an alias name what it named before."""
    record = manager.rollback(name, alias=alias)
    return _changed(manager, name, alias=alias, version=record.alias(alias).version)


def unset(manager: ModelManager, name: str, alias: str) -> JsonObject:
    """Take an alias away."""
    manager.unset(name, alias)
    return _changed(manager, name, alias=alias)


def archive(manager: ModelManager, name: str, version: int) -> JsonObject:
    """Keep a version but offer it no more."""
    manager.archive(name, version)
    return _changed(manager, name, version=version)


def restore(manager: ModelManager, name: str, version: int) -> JsonObject:
    """Offer again what was archived or deleted."""
    manager.restore(name, version)
    return _changed(manager, name, version=version)


def delete(manager: ModelManager, name: str, version: int, *, grace_s: float = GRACE_S) -> JsonObject:
    """Mark a version for removal after `grace_s`."""
    manager.delete(name, version, grace_s=grace_s)
    return _changed(manager, name, version=version)


def _changed(manager: ModelManager, name: str, **facts: object) -> JsonObject:
    record = manager.record(name)
    answer: JsonObject = {"registry": manager.place.url, "name": name, **facts}
    version = facts.get("version")
    if isinstance(version, int):
        answer |= _state(record, version)
    return {**answer, "aliases": {alias: one.version for alias, one in sorted(record.aliases.items())}}


def _version(manager: ModelManager, record: Record, name: str, version: int) -> JsonObject:
    facts: JsonObject = {"version": version, "named": record.names_of(version), **_state(record, version)}
    try:
        description, digest, num_bytes = manager.describe(name, version)
    except BundleError as error:
        return {**facts, "reason": error.message}
    created = description.provenance.created
    return {**facts, "created": created, "bytes": num_bytes, "digest": digest, "metrics": description.metrics}


def _state(record: Record, version: int) -> JsonObject:
    deletion = record.deleted.get(version)
    return {
        "archived_at_s": record.archived.get(version),
        "removed_at_s": None if deletion is None else deletion.due_s,
    }


def _aliases(record: Record) -> JsonObject:
    return {
        name: {"version": alias.version, "since_s": alias.since_s, "before": list(alias.before)}
        for name, alias in sorted(record.aliases.items())
    }
