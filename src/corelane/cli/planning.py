"""The commands about plans: how a run's steps are run on this machine, and why so."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from corelane import app as rooms
from corelane.cli.options import Json
from corelane.cli.outcome import print_result, reported

plan_cli = typer.Typer(help="The measured plan of a run.", no_args_is_help=True)


@plan_cli.command("show", epilog="Example: corelane plan show runs/digits-001")
def plan_show(
    what: Annotated[
        str | None, typer.Argument(help="A run, a configuration, a plan's file or key; the newest run by default.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="The folder that holds runs.")] = Path("runs"),
    cache: Annotated[Path | None, typer.Option(help="The cache directory, where a key is looked for.")] = None,
    as_json: Json = False,
) -> None:
    """Show each way of training that was tried, its time, and why it won or lost."""
    with reported(as_json):
        print_result(rooms.plans.show(what, runs=runs, cache=cache), as_json, rooms.plans_text.plan_text)
