"""From a path or URL to the place that it names. Nothing of fsspec is imported for a directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corelane.store.places.local import LocalPlace
from corelane.store.places.place import Place

_FILE = "file://"


def place_of(url: str | Path, options: Mapping[str, Any] | None = None) -> Place:
    """The place at a directory or URL; `options` are the driver's. `file://` is a directory.

    Raises `ConfigError` for a URL that cannot be, `MissingDependencyError` without the package that speaks it.
    """
    text = str(url)
    if is_url(text) and not text.startswith(_FILE):
        from corelane.store.places.remote import RemotePlace  # noqa: PLC0415 - fsspec only where it is used

        return RemotePlace(text, options)
    return LocalPlace(Path(text.removeprefix(_FILE)))


def is_url(text: str) -> bool:
    """Whether `text` is a URL and not a local path."""
    return "://" in text
