"""`DataSourceManager` owns the table of source types and nothing else.

Sources that need drivers are imported when one of them is first used: reading a CSV loads no database client.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from corelane.core.errors import ConfigError
from corelane.data.sources.filesystem.source import FileSystemSource
from corelane.data.sources.memory import InMemorySource


class SourceType(Protocol):
    """A source class as the manager sees it: something that can read a configuration and yield its rows."""

    def get_iterator(self, config: Any) -> Iterator[dict[str, Any]]:
        """The rows, one dict each."""
        ...


@dataclass(frozen=True, slots=True)
class DeferredSource:
    """The source class `name` of `module`, imported at its first use."""

    module: str
    name: str

    def get_iterator(self, config: Any) -> Iterator[dict[str, Any]]:
        """The rows, one dict each."""
        source = cast(SourceType, getattr(importlib.import_module(self.module), self.name))
        return source.get_iterator(config)


class DataSourceManager:
    """Unified interface to the data sources: `sources` maps a type name to its class."""

    def __init__(self) -> None:
        self.sources: dict[str, SourceType] = {
            "filesystem": FileSystemSource,
            "database": DeferredSource("corelane.data.sources.database", "DatabaseSource"),
            "http": DeferredSource("corelane.data.sources.http", "HTTPSource"),
            "memory": InMemorySource,
        }

    def get_data_iterator(self, source_type: str, config: Any | Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The rows, as dicts, of the source of `source_type` that `config` (its section, or a mapping) describes.

        Raises `ConfigError` for an unknown type or a wrong `config`, `DataError` when the data cannot be read.
        """
        if source_type not in self.sources:
            known = ", ".join(sorted(self.sources))
            raise ConfigError(f"the source type must be one of {known}, got {source_type!r}; choose one of them")
        return self.sources[source_type].get_iterator(config)
