"""`corelane init`: a project folder from a recipe, with the user's own data and target filled in where named."""

from __future__ import annotations

import re
from pathlib import Path

from corelane.app.config import load_root
from corelane.core.errors import ConfigError
from corelane.recipes.catalogue import CONFIG_NAME, copy_recipe


def create(directory: Path, template: str, *, data: Path | None = None, target: str | None = None) -> dict[str, str]:
    """Make `directory` from the recipe `template`; `data` and `target` (tabular only) are written into it.

    Returns the configuration's path. Raises `ConfigError` for an unknown template, existing files, or options that the
    template does not take.
    """
    if (data is not None or target is not None) and template != "tabular":
        raise ConfigError(f"--data and --target must go with the template 'tabular', got {template!r}; leave them out")
    if data is not None and not data.exists():
        raise ConfigError(f"--data must be an existing file or folder, got {str(data)!r}")
    copy_recipe(template, directory)
    config = directory / CONFIG_NAME
    if data is not None or target is not None:
        config.write_text(_fill(config.read_text(encoding="utf-8"), directory, data, target), encoding="utf-8")
    load_root(config)
    return {"directory": str(directory), "config": str(config)}


def _fill(text: str, directory: Path, data: Path | None, target: str | None) -> str:
    name = re.sub(r"[^a-z0-9_-]+", "-", directory.resolve().name.lower()).strip("-_")[:63] or "project"
    text = re.sub(r"^name: .*$", f"name: {name}", text, count=1, flags=re.MULTILINE)
    given = {"path": str(data.resolve()) if data is not None else None, "target": target}
    for key, value in given.items():
        if value is not None:
            quoted = _quoted(value).replace("\\", r"\\")
            text = re.sub(rf"^( +){key}: .*$", rf"\g<1>{key}: {quoted}", text, count=1, flags=re.MULTILINE)
    return text


def _quoted(value: str) -> str:
    """`value` as a YAML single-quoted scalar."""
    return "'" + value.replace("'", "''") + "'"
