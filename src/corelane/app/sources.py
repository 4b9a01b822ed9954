"""Data sources from their configuration: paths made absolute, `${NAME}` read from the environment, the class chosen.

Secrets stay in the environment: what a run directory keeps of a configuration has `${NAME}` in it, and only the source
that is opened here sees the value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from corelane.core.config import validate_config
from corelane.core.errors import ConfigError
from corelane.data.config import (
    DatabaseConfig,
    DataConfig,
    FileSystemConfig,
    HTTPConfig,
    MemoryConfig,
    SourceConfig,
    source_values,
)
from corelane.data.source import DataSource, Tell, tell_nobody
from corelane.data.sources.filesystem.source import FileSystemSource
from corelane.data.sources.memory import InMemorySource
from corelane.store.tiers.disk import DiskTier

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SQLITE = "sqlite:///"
_EXPANDED: Mapping[str, tuple[str, ...]] = {
    "database": ("url",),
    "http": ("url", "headers"),
    "filesystem": ("storage_options",),
}
"""The keys of each source type in which `${NAME}` is read."""


def open_source(
    config: SourceConfig,
    *,
    cache: DiskTier | None = None,
    tell: Tell = tell_nobody,
    strength: Literal["content", "stat"] = "content",
) -> DataSource:
    """The data source that a section describes; its paths are absolute by now.

    `cache` is where downloads are kept between runs; `tell` hears of what happens while reading; files are recognised
    by their content, or without reading them (`stat`). Raises `ConfigError`, also for an environment variable that is
    not set, and what the source raises.
    """
    config = _with_environment(config, os.environ)
    if isinstance(config, MemoryConfig):
        return InMemorySource(config)
    if isinstance(config, FileSystemConfig):
        return FileSystemSource(config, cache=cache, tell=tell, strength=strength)
    if isinstance(config, DatabaseConfig):
        from corelane.data.sources.database import DatabaseSource  # noqa: PLC0415 - drivers only where one is read

        return DatabaseSource(config, tell=tell)
    from corelane.data.sources.http import HTTPSource  # noqa: PLC0415 - likewise

    return HTTPSource(config, cache=cache, tell=tell)


def source_of(text: str, labels: str | None = None) -> SourceConfig:
    """The source that a command's `--input` names: a path, a glob or a URI; `labels` is the label file of an IDX file.

    Raises `ConfigError` for what is none.
    """
    values: dict[str, Any] = {"source": source_values(text), "target": "unused"}
    if labels is not None:
        values["source"]["labels"] = labels
    return validate_config(values, DataConfig, name="--input").source


def absolute(source: SourceConfig | None, base: Path) -> SourceConfig | None:
    """`source` with its local paths starting at `base`."""
    if isinstance(source, FileSystemConfig):
        labels, root = (None if path is None else _absolute(path, base) for path in (source.labels, source.root))
        return source.model_copy(update={"path": _absolute(source.path, base), "labels": labels, "root": root})
    if isinstance(source, DatabaseConfig) and source.url.startswith(_SQLITE):
        return source.model_copy(update={"url": _SQLITE + str(base / source.url.removeprefix(_SQLITE))})
    if isinstance(source, HTTPConfig) and source.ca_file is not None:
        return source.model_copy(update={"ca_file": str(base / source.ca_file)})
    return source


def _absolute(path: str, base: Path) -> str:
    return path if "://" in path else str(base / path)


def _with_environment(config: SourceConfig, environment: Mapping[str, str]) -> SourceConfig:
    keys = _EXPANDED.get(config.type, ())
    values = {key: expand(getattr(config, key), environment, f"data.source.{key}") for key in keys}
    return config.model_copy(update=values)


def expand(value: Any, environment: Mapping[str, str], key: str) -> Any:
    """`value` with each `${NAME}` in its texts read from `environment`; `key` says in errors whose value it is."""
    if isinstance(value, Mapping):
        return {name: expand(inner, environment, f"{key}.{name}") for name, inner in value.items()}
    if not isinstance(value, str):
        return value

    def read(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise ConfigError(
                f"the environment variable {match[1]} must be set, {key} uses it; export it, then run again"
            )
        return environment[match[1]]

    return _VARIABLE.sub(read, value)
