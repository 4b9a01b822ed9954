"""The commands about a registry of models: versions, and the aliases that say which one serves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from corelane import app as rooms
from corelane.cli.options import Json
from corelane.cli.outcome import print_result, reported

models_cli = typer.Typer(help="A registry of models: versions and aliases.", no_args_is_help=True)

DAY_S = 86_400.0
Name = Annotated[str, typer.Argument(help="A model's name.")]
Version = Annotated[int, typer.Argument(min=1, help="A version's number.")]
AliasName = Annotated[str, typer.Option("--alias", help="The alias; the champion is what serves.")]
Registry = Annotated[
    str | None, typer.Option(help="The registry: a folder, or a URL such as s3://bucket/models; else ./packages.")
]
Config = Annotated[
    Path | None, typer.Option(help="A configuration file, for serve.registry and serve.registry_options.")
]


@models_cli.command("list", epilog="Example: corelane models list --registry packages")
def models_list(registry: Registry = None, config: Config = None, as_json: Json = False) -> None:
    """Show each model with its versions and aliases."""
    with reported(as_json):
        manager = rooms.models.open_registry(registry, config=config)
        print_result(rooms.models.list_models(manager), as_json, rooms.models_text.list_text)


@models_cli.command("show", epilog="Example: corelane models show digits")
def models_show(name: Name, registry: Registry = None, config: Config = None, as_json: Json = False) -> None:
    """Show a model's versions, newest first, and what its aliases name and named before."""
    with reported(as_json):
        manager = rooms.models.open_registry(registry, config=config)
        print_result(rooms.models.show(manager, name), as_json, rooms.models_text.show_text)


@models_cli.command("publish", epilog="Example: corelane models publish packages/digits --registry s3://bucket/models")
def models_publish(
    package: Annotated[Path, typer.Argument(help="A package: packages/<name>/<version>, packages/<name>, or a run.")],
    alias: Annotated[str | None, typer.Option(help="Have this alias name it.")] = None,
    registry: Registry = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Add a package to a registry; it must load and answer its golden rows here."""
    with reported(as_json):
        manager = rooms.models.open_registry(registry, config=config)
        print_result(rooms.models.publish(manager, package, alias=alias), as_json, rooms.models_text.changed_text)


@models_cli.command("promote", epilog="Example: corelane models promote digits 3")
def models_promote(
    name: Name,
    version: Version,
    alias: AliasName = "champion",
    registry: Registry = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Have an alias name a version; servers that follow it change over."""
    with reported(as_json):
        manager = rooms.models.open_registry(registry, config=config)
        answer = rooms.models.promote(manager, name, version, alias=alias)
        print_result(answer, as_json, rooms.models_text.changed_text)


@models_cli.command("rollback", epilog="Example: corelane models rollback digits")
def models_rollback(
    name: Name, alias: AliasName = "champion", registry: Registry = None, config: Config = None, as_json: Json = False
) -> None:
    """Have an alias name again what it named before."""
    with reported(as_json):
        manager = rooms.models.open_registry(registry, config=config)
        print_result(rooms.models.rollback(manager, name, alias=alias), as_json, rooms.models_text.changed_text)


@models_cli.command("unset", epilog="Example: corelane models unset digits challenger")
def models_unset(
    name: Name,
    alias: Annotated[str, typer.Argument(help="The alias.")],
    registry: Registry = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Take an alias away."""
    with reported(as_json):
        manager = rooms.models.open_registry(registry, config=config)
        print_result(rooms.models.unset(manager, name, alias), as_json, rooms.models_text.changed_text)


@models_cli.command("archive", epilog="Example: corelane models archive digits 1")
def models_archive(
    name: Name, version: Version, registry: Registry = None, config: Config = None, as_json: Json = False
) -> None:
    """Keep a version, but let no alias name it."""
    with reported(as_json):
        manager = rooms.models.open_registry(registry, config=config)
        print_result(rooms.models.archive(manager, name, version), as_json, rooms.models_text.changed_text)


@models_cli.command("restore", epilog="Example: corelane models restore digits 1")
def models_restore(
    name: Name, version: Version, registry: Registry = None, config: Config = None, as_json: Json = False
) -> None:
    """Take an archiving or a deletion back."""
    with reported(as_json):
        manager = rooms.models.open_registry(registry, config=config)
        print_result(rooms.models.restore(manager, name, version), as_json, rooms.models_text.changed_text)


@models_cli.command("delete", epilog="Example: corelane models delete digits 1 --grace-days 30")
def models_delete(
    name: Name,
    version: Version,
    grace_days: Annotated[float, typer.Option(min=0.0, help="Days in which it can be restored.")] = 7.0,
    registry: Registry = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Have a version removed after some days; one that an alias names stays."""
    with reported(as_json):
        manager = rooms.models.open_registry(registry, config=config)
        answer = rooms.models.delete(manager, name, version, grace_s=grace_days * DAY_S)
        print_result(answer, as_json, rooms.models_text.changed_text)
