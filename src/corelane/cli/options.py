"""Arguments and options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from corelane.core.errors import ConfigError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a configuration key; repeatable.")
]
ConfigFile = Annotated[Path, typer.Argument(help="The configuration file (YAML).")]
PackagePath = Annotated[Path, typer.Argument(help="A package: packages/<name>/<version>, or packages/<name>.")]


def named_values(given: Iterable[str]) -> dict[str, Any]:
    """`name=value` pairs by name, each value as JSON reads it, or else a text. Raises `ConfigError`."""
    values: dict[str, Any] = {}
    for pair in given:
        name, sign, text = pair.partition("=")
        if not sign or not name.isidentifier():
            raise ConfigError(f"an argument must be name=value, got {pair!r}; write --argument hidden=32")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values
