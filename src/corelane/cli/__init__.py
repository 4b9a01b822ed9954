"""The command line: arguments in, one call into `app`, a result out. No decision is taken here but the exit code.

`work.py` holds the commands that do something, `looking.py` the groups that show something, `outcome.py` what becomes
of results and errors.
"""

from __future__ import annotations

from corelane.cli.looking import cache_cli, config_cli, data_cli, runs_cli
from corelane.cli.work import cli

for name, group in {"cache": cache_cli, "config": config_cli, "data": data_cli, "runs": runs_cli}.items():
    cli.add_typer(group, name=name)


def main() -> None:
    """The `corelane` command."""
    cli()
