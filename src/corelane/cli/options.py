"""Arguments and options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

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


def load_steps(text: str) -> list[tuple[float, float]]:
    """`rate:seconds,rate:seconds` as pairs. Raises `ConfigError`."""
    try:
        return [(float(rate), float(seconds)) for rate, seconds in (step.split(":") for step in text.split(","))]
    except ValueError as error:
        raise ConfigError(f"--steps must be rate:seconds,rate:seconds, got {text!r}; write 100:10,200:10") from error


def load_shape(text: str) -> Literal["constant", "poisson"]:
    """How requests are spaced. Raises `ConfigError`."""
    if text == "constant":
        return "constant"
    if text == "poisson":
        return "poisson"
    raise ConfigError(f"--shape must be poisson or constant, got {text!r}")
