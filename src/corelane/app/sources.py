"""Data sources from their configuration: `${NAME}` read from the environment, the class chosen.

Only the source that is opened here sees what a secret's name stands for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

from corelane.app.source_places import expand
from corelane.core.config import validate_config
from corelane.data.config import (
    DatabaseConfig,
    DataConfig,
    FileSystemConfig,
    MemoryConfig,
    SourceConfig,
    source_values,
)
from corelane.data.source import DataSource, Tell, tell_nobody
from corelane.data.sources.filesystem.source import FileSystemSource
from corelane.data.sources.memory import InMemorySource
from corelane.store.tiers.disk import DiskTier

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


def _with_environment(config: SourceConfig, environment: Mapping[str, str]) -> SourceConfig:
    keys = _EXPANDED.get(config.type, ())
    values = {key: expand(getattr(config, key), environment, f"data.source.{key}") for key in keys}
    return config.model_copy(update=values)
