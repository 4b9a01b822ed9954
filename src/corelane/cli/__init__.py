"""The command line: arguments in, one call into `app`, a result out. No decision is taken here but the exit code.

`work.py` holds the commands that do something, `looking.py` the groups that show something, `keeping.py` those about
checkpoints, `planning.py` those about plans, `registering.py` those about a registry, `tokens.py` those about tokens,
`outcome.py` what becomes of results and errors.
"""

from __future__ import annotations

from corelane.cli.keeping import checkpoints_cli, verify_resume
from corelane.cli.looking import cache_cli, config_cli, data_cli, runs_cli
from corelane.cli.planning import optimize, plan_cli, plan_worker
from corelane.cli.registering import models_cli
from corelane.cli.tokens import token_cli
from corelane.cli.work import cli

GROUPS = {
    "cache": cache_cli,
    "checkpoints": checkpoints_cli,
    "config": config_cli,
    "data": data_cli,
    "models": models_cli,
    "plan": plan_cli,
    "runs": runs_cli,
    "token": token_cli,
}
for name, group in GROUPS.items():
    cli.add_typer(group, name=name)
cli.command("verify-resume", epilog="Example: corelane verify-resume runs/digits-001")(verify_resume)
cli.command("plan-worker", hidden=True)(plan_worker)
cli.command(epilog="Example: corelane optimize packages/digits --max-accuracy-drop 0.005")(optimize)


def main() -> None:
    """The `corelane` command."""
    cli()
