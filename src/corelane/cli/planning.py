"""The commands about plans: how a run's steps, or a package's graphs, are run on this machine, and why so."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from corelane import app as rooms
from corelane.cli.options import Json, PackagePath
from corelane.cli.outcome import facts_text, print_result, reported

plan_cli = typer.Typer(help="The measured plans of runs and packages.", no_args_is_help=True)


@plan_cli.command("show", epilog="Example: corelane plan show runs/digits-001")
def plan_show(
    what: Annotated[
        str | None, typer.Argument(help="A run, a configuration, a package, a plan's file or key; else the newest run.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="The folder that holds runs.")] = Path("runs"),
    cache: Annotated[Path | None, typer.Option(help="The cache directory, where a key is looked for.")] = None,
    as_json: Json = False,
) -> None:
    """Show each way of training or answering that was tried, its time, and why it won or lost."""
    with reported(as_json):
        print_result(rooms.plans.show(what, runs=runs, cache=cache), as_json, rooms.plans_text.plan_text)


@plan_cli.command("compare", epilog="Example: corelane plan compare runs/digits-001 runs/digits-002")
def plan_compare(
    one: Annotated[str, typer.Argument(help="A run, a configuration, a plan's file or key.")],
    other: Annotated[str, typer.Argument(help="Another.")],
    runs: Annotated[Path, typer.Option(help="The folder that holds runs.")] = Path("runs"),
    cache: Annotated[Path | None, typer.Option(help="The cache directory, where a key is looked for.")] = None,
    as_json: Json = False,
) -> None:
    """Compare what two plans chose, and the times of what they tried."""
    with reported(as_json):
        print_result(rooms.plans.compare(one, other, runs=runs, cache=cache), as_json, rooms.plans_text.compared_text)


@plan_cli.command("clear", epilog="Example: corelane plan clear packages/digits")
def plan_clear(
    package: Annotated[str | None, typer.Argument(help="Only the plans of this package.")] = None,
    older_than_days: Annotated[float, typer.Option(min=0.0, help="Only plans that are at least so old.")] = 0.0,
    cache: Annotated[Path | None, typer.Option(help="The cache directory.")] = None,
    as_json: Json = False,
) -> None:
    """Remove plans from the cache; runs keep theirs. What was removed is searched again when it is needed."""
    with reported(as_json):
        print_result(rooms.plans.clear(package, older_than_days=older_than_days, cache=cache), as_json, facts_text)


def optimize(
    package: PackagePath,
    max_accuracy_drop: Annotated[
        float,
        typer.Option(help="Share of the quality that a faster graph may lose: 0.005 is half a point of accuracy."),
    ] = 0.005,
    data: Annotated[
        str | None, typer.Option("--data", help="Rows with their target to judge graphs on; else the package's own.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="The label file of an IDX image file.")] = None,
    packages: Annotated[Path | None, typer.Option(help="The folder that holds packages.")] = None,
    cache: Annotated[Path | None, typer.Option(help="The cache directory, where plans are kept.")] = None,
    as_json: Json = False,
) -> None:
    """Find the fastest graph that is accurate enough, and the fastest way to run it on this machine."""
    with reported(as_json):
        answer = rooms.optimizing.optimize(
            package, max_accuracy_drop=max_accuracy_drop, data=data, labels=labels, directory=packages, cache=cache
        )
        print_result(answer, as_json, rooms.optimizing_text.optimized_text)


def plan_worker(
    package: Annotated[Path, typer.Argument(help="The package to plan.")],
    cache: Annotated[Path, typer.Option(help="The cache directory, where plans are kept.")],
) -> None:
    """A process beside `corelane serve` that searches for a plan while the machine is idle."""
    with reported(as_json=False):
        rooms.idle_planning.plan_when_idle(package, cache)
