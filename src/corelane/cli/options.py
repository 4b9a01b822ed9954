"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a configuration key; repeatable.")
]
ConfigFile = Annotated[Path, typer.Argument(help="The configuration file (YAML).")]
PackagePath = Annotated[Path, typer.Argument(help="A package: packages/<name>/<version>, or packages/<name>.")]
