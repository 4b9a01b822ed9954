"""The commands about tokens: who may ask a server for what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from corelane import app as rooms
from corelane.cli.options import Json
from corelane.cli.outcome import facts_text, print_result, reported

token_cli = typer.Typer(help="Tokens that a server asks for.", no_args_is_help=True)

File = Annotated[Path, typer.Option(help="The file of tokens, as serve.tokens names it.")]
FILE = Path("tokens.json")


@token_cli.command("new", epilog="Example: corelane token new shop --scope infer --days 90")
def token_new(
    name: Annotated[str, typer.Argument(help="Whose it is.")],
    scopes: Annotated[list[str], typer.Option("--scope", help="infer, read or manage; repeat it.")],
    file: File = FILE,
    days: Annotated[float | None, typer.Option(min=0, help="How long it holds; for ever without.")] = None,
    as_json: Json = False,
) -> None:
    """Make a token and print it once: the file keeps a hash of it."""
    with reported(as_json):
        print_result(rooms.tokens.new(name, scopes, file=file, days=days), as_json, facts_text)


@token_cli.command("list", epilog="Example: corelane token list")
def token_list(file: File = FILE, as_json: Json = False) -> None:
    """Show whose tokens there are, and what they may do."""
    with reported(as_json):
        print_result(rooms.tokens.listed(file), as_json, rooms.tokens.listed_text)


@token_cli.command("revoke", epilog="Example: corelane token revoke shop")
def token_revoke(
    name: Annotated[str, typer.Argument(help="Whose it is.")], file: File = FILE, as_json: Json = False
) -> None:
    """Take a token out of the file; running servers notice within a second."""
    with reported(as_json):
        print_result(rooms.tokens.revoke(name, file=file), as_json, facts_text)
