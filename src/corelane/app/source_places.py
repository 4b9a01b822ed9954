"""What a configuration says of places and secrets: paths made absolute, `${NAME}` read from the environment.

Secrets stay in the environment: what a run directory keeps of a configuration has `${NAME}` in it. No source is opened
here, so that a server, which reads none, need not load them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corelane.core.errors import ConfigError
from corelane.data.config import DatabaseConfig, FileSystemConfig, HTTPConfig, SourceConfig

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SQLITE = "sqlite:///"


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
