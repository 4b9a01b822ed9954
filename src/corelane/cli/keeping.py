"""The commands about a run's checkpoints: what there is, whether it is whole, and whether a run resumes exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from corelane import app as rooms
from corelane.cli.options import Json
from corelane.cli.outcome import leaving_when_asked, print_result, reported
from corelane.machine.exit_codes import EXIT_OURS, EXIT_USER

checkpoints_cli = typer.Typer(help="The checkpoints of a run.", no_args_is_help=True)
RunPath = Annotated[Path, typer.Argument(help="A run's directory.")]


@checkpoints_cli.command("list", epilog="Example: corelane checkpoints list runs/digits-001")
def checkpoints_list(run: RunPath, as_json: Json = False) -> None:
    """Show a run's checkpoints: step, epoch, validation loss, size, time."""
    with reported(as_json):
        print_result(rooms.checkpoints.list_checkpoints(run), as_json, rooms.checkpoints_text.list_text)


@checkpoints_cli.command("verify", epilog="Example: corelane checkpoints verify runs/digits-001")
def checkpoints_verify(run: RunPath, as_json: Json = False) -> None:
    """Hash every file of every checkpoint, and name what is broken."""
    with reported(as_json):
        answer = rooms.checkpoints.verify(run)
        print_result(answer, as_json, rooms.checkpoints_text.verify_text)
        if answer["broken"]:
            raise typer.Exit(EXIT_USER)


@checkpoints_cli.command("prune", epilog="Example: corelane checkpoints prune runs/digits-001 --last 2")
def checkpoints_prune(
    run: RunPath,
    last: Annotated[int | None, typer.Option(min=1, help="Keep so many of the newest.")] = None,
    best: Annotated[int | None, typer.Option(min=0, help="Keep so many with the lowest validation loss.")] = None,
    every: Annotated[int | None, typer.Option(min=0, help="Keep those whose step this divides.")] = None,
    as_json: Json = False,
) -> None:
    """Remove checkpoints that need not stay, as configured or as asked; two whole ones always stay."""
    with reported(as_json):
        answer = rooms.checkpoints.prune(run, last=last, best=best, every=every)
        print_result(answer, as_json, rooms.checkpoints_text.prune_text)


def verify_resume(
    run: RunPath,
    steps: Annotated[int | None, typer.Option(min=1, help="Replay so many steps twice instead.")] = None,
    as_json: Json = False,
) -> None:
    """Resume a copy of a run from a checkpoint, train on to a later one, and compare every byte with the run's own."""
    with reported(as_json), leaving_when_asked():
        answer = rooms.replay.verify_resume(run, steps=steps)
        print_result(answer, as_json, rooms.checkpoints_text.replay_text)
        if not answer["is_equal"]:
            raise typer.Exit(EXIT_OURS)
