"""The commands that look at what there is: a configuration, data, runs, the cache. Each group has a name of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from corelane import app as rooms
from corelane.cli.options import ConfigFile, Json, Overrides
from corelane.cli.outcome import STOPPED, leaving_when_asked, print_result, reported
from corelane.machine.exit_codes import EXIT_USER

config_cli = typer.Typer(help="The configuration's schema, and the resolved form of a file.", no_args_is_help=True)
data_cli = typer.Typer(help="Data, looked at before anything is trained.", no_args_is_help=True)
runs_cli = typer.Typer(help="Runs, from the index that lies beside them.", no_args_is_help=True)
cache_cli = typer.Typer(help="What the cache holds, whether it is whole, and clearing it.", no_args_is_help=True)


@config_cli.command("schema", epilog="Example: corelane config schema > corelane.schema.json")
def config_schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    typer.echo(json.dumps(rooms.config.json_schema(), indent=2))


@config_cli.command("show", epilog="Example: corelane config show config.yaml --set seed=3")
def config_show(config: ConfigFile, overrides: Overrides = None, as_json: Json = False) -> None:
    """Validate a configuration and print it with every default filled in."""
    with reported(as_json):
        resolved = rooms.config.load_root(config, overrides or ())
        typer.echo(json.dumps(resolved.model_dump(mode="json")) if as_json else rooms.config.dump(resolved))


@data_cli.command("check", epilog="Example: corelane data check customers.csv --target churned")
def data_check(
    source: Annotated[str, typer.Argument(help="A path, a glob or a URI; or a configuration (.yaml).")],
    target: Annotated[str | None, typer.Option(help="The column to predict.")] = None,
    against: Annotated[Path | None, typer.Option(help="A saved profile to compare with.")] = None,
    save: Annotated[Path | None, typer.Option(help="Where to save the profile (JSON).")] = None,
    html: Annotated[Path | None, typer.Option(help="Where to write it as a page.")] = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Show what is in some data, what training would refuse of it, and how far it moved from a saved profile."""
    # An exception would wait for the thread that reads, which may be in the middle of a long download.
    with reported(as_json), leaving_when_asked(f"{STOPPED}\n".encode()):
        answer = rooms.data_check.check(source, overrides or (), target=target, against=against, save=save, page=html)
        print_result(answer, as_json, rooms.data_check_text.check_text)
        if not answer["usable"]:
            raise typer.Exit(EXIT_USER)


RunsFolder = Annotated[Path, typer.Option("--runs", help="The folder that holds runs.")]


@runs_cli.command("list", epilog="Example: corelane runs list --name digits")
def runs_list(
    runs: RunsFolder = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Only runs of this name.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """List runs, the newest first."""
    with reported(as_json):
        print_result(rooms.catalogue.list_runs(runs, name, limit=limit), as_json, rooms.catalogue_text.runs_text)


@runs_cli.command("show", epilog="Example: corelane runs show runs/digits-001")
def runs_show(run: Annotated[str, typer.Argument(help="A run's folder, or its name.")], as_json: Json = False) -> None:
    """Show everything that is known of a run."""
    with reported(as_json):
        print_result(rooms.catalogue.show_run(run), as_json, rooms.catalogue_text.run_text)


@runs_cli.command("compare", epilog="Example: corelane runs compare runs/digits-001 runs/digits-002")
def runs_compare(
    runs: Annotated[list[str], typer.Argument(help="Two or more runs of one folder.")], as_json: Json = False
) -> None:
    """Show runs side by side: what differs in their configuration, their data and their metrics."""
    with reported(as_json):
        print_result(rooms.catalogue.compare_runs(runs), as_json, rooms.catalogue_text.comparison_text)


@runs_cli.command("lineage", epilog="Example: corelane runs lineage packages/digits/1")
def runs_lineage(of: Annotated[str, typer.Argument(help="A run or a package.")], as_json: Json = False) -> None:
    """Show where a run or a package comes from, and what became of it."""
    with reported(as_json):
        print_result(rooms.catalogue.lineage(of), as_json, rooms.catalogue_text.lineage_text)


@runs_cli.command("reindex", epilog="Example: corelane runs reindex")
def runs_reindex(
    runs: RunsFolder = Path("runs"),
    packages: Annotated[Path | None, typer.Option(help="The folder that holds packages.")] = None,
    as_json: Json = False,
) -> None:
    """Make the index of runs anew from the run directories."""
    with reported(as_json):
        print_result(rooms.catalogue.reindex(runs, packages), as_json, rooms.catalogue_text.reindex_text)


CacheConfig = Annotated[Path | None, typer.Argument(help="A configuration; its `machine` section is used.")]
CacheFolder = Annotated[Path | None, typer.Option("--cache", help="The cache directory.")]
ClearedTier = Annotated[str, typer.Option("--tier", help="disk, or shared.")]
CacheTier = Annotated[str | None, typer.Option("--tier", help="disk or shared; both by default.")]


@cache_cli.command("stats", epilog="Example: corelane cache stats config.yaml")
def cache_stats(
    config: CacheConfig = None, cache: CacheFolder = None, tier: CacheTier = None, as_json: Json = False
) -> None:
    """Show entries and bytes, by tier and kind."""
    with reported(as_json):
        tiers = rooms.cache.CacheTiers(config, cache=cache, tier=tier)
        print_result(rooms.cache.stats(tiers), as_json, rooms.cache_text.stats_text)


@cache_cli.command("verify", epilog="Example: corelane cache verify --repair")
def cache_verify(
    config: CacheConfig = None,
    cache: CacheFolder = None,
    tier: CacheTier = None,
    repair: Annotated[bool, typer.Option("--repair", help="Remove what is broken.")] = False,
    as_json: Json = False,
) -> None:
    """Hash everything again, and name what is broken."""
    with reported(as_json):
        answer = rooms.cache.verify(rooms.cache.CacheTiers(config, cache=cache, tier=tier), repair=repair)
        print_result(answer, as_json, rooms.cache_text.verify_text)
        if not all(entry["is_removed"] for entry in answer["broken"]):
            raise typer.Exit(EXIT_USER)


@cache_cli.command("clear", epilog="Example: corelane cache clear --tier disk")
def cache_clear(
    config: CacheConfig = None, cache: CacheFolder = None, tier: ClearedTier = "disk", as_json: Json = False
) -> None:
    """Remove what no process uses. The shared tier is cleared only when it is named."""
    with reported(as_json):
        tiers = rooms.cache.CacheTiers(config, cache=cache, tier=tier)
        print_result(rooms.cache.clear(tiers), as_json, rooms.cache_text.clear_text)
