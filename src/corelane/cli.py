"""The command line: arguments in, one call into `app`, a result out. No decision is taken here but the exit code.

Exit codes: 0 done, 1 our fault, 2 the user's mistake, 75 stopped in a way that the same command can resume. With
`--json` a command prints one JSON object on standard output and nothing else there, an error included.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

import corelane
from corelane import app as rooms
from corelane.core.errors import CorelaneError

EXIT_OURS, EXIT_USER, EXIT_RESUMABLE = 1, 2, 75
_STOPPED = b"corelane: stopped before the end; run the same command again with --resume\n"

# The rest follows the class: transient errors can be resumed, permanent ones are the user's to mend.
EXIT_BY_CODE = {"skew_detected": EXIT_OURS, "golden_mismatch": EXIT_OURS, "worker_lost": EXIT_OURS}

cli = typer.Typer(
    name="corelane",
    help="Train, package and serve neural networks on CPUs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_cli = typer.Typer(help="The configuration's schema, and the resolved form of a file.", no_args_is_help=True)
data_cli = typer.Typer(help="Data, looked at before anything is trained.", no_args_is_help=True)
runs_cli = typer.Typer(help="Runs, from the index that lies beside them.", no_args_is_help=True)
cache_cli = typer.Typer(help="What the cache holds, whether it is whole, and clearing it.", no_args_is_help=True)
cli.add_typer(cache_cli, name="cache")
cli.add_typer(config_cli, name="config")
cli.add_typer(data_cli, name="data")
cli.add_typer(runs_cli, name="runs")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a configuration key; repeatable.")
]
ConfigFile = Annotated[Path, typer.Argument(help="The configuration file (YAML).")]
PackagePath = Annotated[Path, typer.Argument(help="A package: packages/<name>/<version>, or packages/<name>.")]


def exit_code(error: CorelaneError) -> int:
    """The exit code that stands for `error`."""
    return EXIT_BY_CODE.get(error.code, EXIT_RESUMABLE if error.transient else EXIT_USER)


@contextmanager
def _reported(as_json: bool) -> Iterator[None]:
    """Turn an error of ours into one line (or one JSON object) and its exit code."""
    try:
        yield
    except CorelaneError as error:
        if as_json:
            typer.echo(json.dumps({"error": error.message, "code": error.code}))
        else:
            typer.echo(f"corelane: {error.message}", err=True)
        raise typer.Exit(exit_code(error)) from error
    except KeyboardInterrupt as error:
        typer.echo("corelane: stopped before the end; run the same command again", err=True)
        raise typer.Exit(EXIT_RESUMABLE) from error
    except BrokenPipeError:
        # The reader of our output went away (`corelane ... | head`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print(result: dict[str, Any], as_json: bool, show: Callable[[dict[str, Any]], str]) -> None:
    typer.echo(json.dumps(result, allow_nan=False) if as_json else show(result))


def _facts(result: Mapping[str, Any]) -> str:
    """Flat facts as aligned lines; nested ones are indented under their name."""
    lines: list[str] = []
    width = max((len(key) for key in result), default=0)
    for key, value in result.items():
        if isinstance(value, Mapping):
            lines.append(key)
            lines.extend("  " + line for line in _facts(value).splitlines())
        else:
            shown = _number(value) if isinstance(value, float) else value
            lines.append(f"{key:<{width}}  {shown}")
    return "\n".join(lines)


def _trained(result: Mapping[str, Any]) -> str:
    """A run's outcome, and what to type next."""
    shown = {key: value for key, value in result.items() if key != "version"}
    package = result.get("package")
    follow = f"corelane serve {package}" if package else f"corelane package {result['run']}"
    return f"{_facts(shown)}\nnext: {follow}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _version(asked: bool) -> None:
    if asked:
        typer.echo(corelane.__version__)
        raise typer.Exit


@cli.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Train, package and serve neural networks on CPUs."""


@cli.command(epilog="Example: corelane init churn --data customers.csv --target churned")
def init(
    directory: Annotated[Path, typer.Argument(help="The project folder to make.")],
    template: Annotated[str, typer.Option(help="digits, penguins, fashion-mnist or tabular.")] = "tabular",
    data: Annotated[Path | None, typer.Option(help="Your own CSV or Parquet file (template tabular).")] = None,
    target: Annotated[str | None, typer.Option(help="The column to predict (template tabular).")] = None,
    as_json: Json = False,
) -> None:
    """Make a project folder with a commented configuration."""
    with _reported(as_json):
        result = rooms.project.create(directory, template, data=data, target=target)
        _print(result, as_json, lambda made: f"made {made['config']}\nnext: corelane train {made['config']}")


@cli.command(epilog="Example: corelane train config.yaml --set train.epochs=3")
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the newest run, if there is one.")] = False,
    runs: Annotated[Path, typer.Option(help="The folder that holds runs.")] = Path("runs"),
    packages: Annotated[Path | None, typer.Option(help="The folder that holds packages.")] = None,
    package: Annotated[bool, typer.Option(help="Package the best checkpoint when training is done.")] = True,
    as_json: Json = False,
) -> None:
    """Train on the configured data, and package the best model."""
    with _reported(as_json), _leaving_when_asked(_STOPPED):
        result = rooms.training.train_supervised(config, overrides or (), runs=runs, resume=resume, quiet=as_json)
        if package:
            result["package"] = str(rooms.packaging.package(Path(result["run"]), directory=packages))
        _print(result, as_json, _trained)


@cli.command("train-worker", hidden=True)
def train_worker(
    run: Annotated[Path, typer.Option(help="The run directory.")],
    resume: Annotated[bool, typer.Option("--resume")] = False,
    quiet: Annotated[bool, typer.Option("--quiet")] = False,
) -> None:
    """The trainer's own process, started by `corelane train`."""
    try:
        with _leaving_when_asked():
            rooms.training.train_run(run, resume=resume, quiet=quiet)
    except CorelaneError as error:  # the parent reads it from the run directory and tells it
        raise typer.Exit(exit_code(error)) from error


@cli.command(epilog="Example: corelane package runs/digits-001")
def package(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    packages: Annotated[Path | None, typer.Option(help="The folder that holds packages.")] = None,
    as_json: Json = False,
) -> None:
    """Turn a run's best checkpoint into a package, if the server reproduces its answers."""
    with _reported(as_json):
        _print({"package": str(rooms.packaging.package(run, directory=packages))}, as_json, _facts)


@cli.command(epilog="Example: corelane evaluate packages/digits/1 --input test.csv")
def evaluate(
    package: PackagePath,
    data: Annotated[str, typer.Option("--input", help="Rows with their target: CSV, Parquet, IDX or image folder.")],
    labels: Annotated[str | None, typer.Option(help="The label file of an IDX image file.")] = None,
    as_json: Json = False,
) -> None:
    """Score a package on labelled data."""
    with _reported(as_json):
        _print(rooms.scoring.evaluate(package, data, labels=labels), as_json, _facts)


@cli.command(epilog="Example: corelane predict packages/digits/1 --input new.csv --output answers.parquet")
def predict(
    package: PackagePath,
    data: Annotated[str, typer.Option("--input", help="Rows: CSV, Parquet, IDX or image folder.")],
    output: Annotated[Path, typer.Option(help="Where answers go: .parquet, .csv or .jsonl.")],
    labels: Annotated[str | None, typer.Option(help="The label file of an IDX image file.")] = None,
    as_json: Json = False,
) -> None:
    """Predict every row of a data set, in order."""
    with _reported(as_json):
        _print(rooms.scoring.predict(package, data, output, labels=labels), as_json, _facts)


@cli.command(epilog="Example: corelane serve packages/digits --port 8000 --workers 2")
def serve(
    packages: Annotated[list[Path] | None, typer.Argument(help="Packages to serve.")] = None,
    config: Annotated[Path | None, typer.Option(help="A configuration file; its `serve` section is used.")] = None,
    overrides: Overrides = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 by default.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 8000 by default, 0 for any free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Server processes that share the port; 1 by default.")] = None,
    as_json: Json = False,
) -> None:
    """Serve packages over REST until stopped."""
    with _reported(as_json):
        options = {"host": host, "port": port, "workers": workers}
        settings = [
            *(overrides or ()),
            *(f"serve.{key}={value}" for key, value in options.items() if value is not None),
        ]
        code = rooms.serving.serve(packages or [], config=config, overrides=settings, announce=_announce(as_json))
        raise typer.Exit(code)


@cli.command("serve-worker", hidden=True)
def serve_worker(spec: Annotated[Path, typer.Option(help="The worker's specification.")]) -> None:
    """One server process, started by `corelane serve`."""
    with _reported(as_json=False):
        raise typer.Exit(rooms.serving.run_worker(spec))


@cli.command(epilog="Example: corelane doctor config.yaml")
def doctor(
    config: Annotated[Path | None, typer.Argument(help="A configuration to try out; none tries a bundled one.")] = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Print what this machine is, and do a dry run: data, a batch, a step, a save, an inference."""
    with _reported(as_json):
        report = rooms.doctor.examine(config, overrides or ())
        _print(report, as_json, _facts)
        if not report["healthy"]:
            raise typer.Exit(EXIT_USER)


@config_cli.command("schema", epilog="Example: corelane config schema > corelane.schema.json")
def config_schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    typer.echo(json.dumps(rooms.config.json_schema(), indent=2))


@config_cli.command("show", epilog="Example: corelane config show config.yaml --set seed=3")
def config_show(config: ConfigFile, overrides: Overrides = None, as_json: Json = False) -> None:
    """Validate a configuration and print it with every default filled in."""
    with _reported(as_json):
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
    with _reported(as_json):
        answer = rooms.data_check.check(source, overrides or (), target=target, against=against, save=save, page=html)
        _print(answer, as_json, rooms.data_check_text.check_text)
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
    with _reported(as_json):
        _print(rooms.catalogue.list_runs(runs, name, limit=limit), as_json, rooms.catalogue_text.runs_text)


@runs_cli.command("show", epilog="Example: corelane runs show runs/digits-001")
def runs_show(run: Annotated[str, typer.Argument(help="A run's folder, or its name.")], as_json: Json = False) -> None:
    """Show everything that is known of a run."""
    with _reported(as_json):
        _print(rooms.catalogue.show_run(run), as_json, rooms.catalogue_text.run_text)


@runs_cli.command("compare", epilog="Example: corelane runs compare runs/digits-001 runs/digits-002")
def runs_compare(
    runs: Annotated[list[str], typer.Argument(help="Two or more runs of one folder.")], as_json: Json = False
) -> None:
    """Show runs side by side: what differs in their configuration, their data and their metrics."""
    with _reported(as_json):
        _print(rooms.catalogue.compare_runs(runs), as_json, rooms.catalogue_text.comparison_text)


@runs_cli.command("lineage", epilog="Example: corelane runs lineage packages/digits/1")
def runs_lineage(of: Annotated[str, typer.Argument(help="A run or a package.")], as_json: Json = False) -> None:
    """Show where a run or a package comes from, and what became of it."""
    with _reported(as_json):
        _print(rooms.catalogue.lineage(of), as_json, rooms.catalogue_text.lineage_text)


@runs_cli.command("reindex", epilog="Example: corelane runs reindex")
def runs_reindex(
    runs: RunsFolder = Path("runs"),
    packages: Annotated[Path | None, typer.Option(help="The folder that holds packages.")] = None,
    as_json: Json = False,
) -> None:
    """Make the index of runs anew from the run directories."""
    with _reported(as_json):
        _print(rooms.catalogue.reindex(runs, packages), as_json, rooms.catalogue_text.reindex_text)


CacheConfig = Annotated[Path | None, typer.Argument(help="A configuration; its `machine` section is used.")]
CacheFolder = Annotated[Path | None, typer.Option("--cache", help="The cache directory.")]
ClearedTier = Annotated[str, typer.Option("--tier", help="disk, or shared.")]
CacheTier = Annotated[str | None, typer.Option("--tier", help="disk or shared; both by default.")]


@cache_cli.command("stats", epilog="Example: corelane cache stats config.yaml")
def cache_stats(
    config: CacheConfig = None, cache: CacheFolder = None, tier: CacheTier = None, as_json: Json = False
) -> None:
    """Show entries and bytes, by tier and kind."""
    with _reported(as_json):
        tiers = rooms.cache.CacheTiers(config, cache=cache, tier=tier)
        _print(rooms.cache.stats(tiers), as_json, rooms.cache_text.stats_text)


@cache_cli.command("verify", epilog="Example: corelane cache verify --repair")
def cache_verify(
    config: CacheConfig = None,
    cache: CacheFolder = None,
    tier: CacheTier = None,
    repair: Annotated[bool, typer.Option("--repair", help="Remove what is broken.")] = False,
    as_json: Json = False,
) -> None:
    """Hash everything again, and name what is broken."""
    with _reported(as_json):
        answer = rooms.cache.verify(rooms.cache.CacheTiers(config, cache=cache, tier=tier), repair=repair)
        _print(answer, as_json, rooms.cache_text.verify_text)
        if not all(entry["is_removed"] for entry in answer["broken"]):
            raise typer.Exit(EXIT_USER)


@cache_cli.command("clear", epilog="Example: corelane cache clear --tier disk")
def cache_clear(
    config: CacheConfig = None, cache: CacheFolder = None, tier: ClearedTier = "disk", as_json: Json = False
) -> None:
    """Remove what no process uses. The shared tier is cleared only when it is named."""
    with _reported(as_json):
        tiers = rooms.cache.CacheTiers(config, cache=cache, tier=tier)
        _print(rooms.cache.clear(tiers), as_json, rooms.cache_text.clear_text)


def _announce(as_json: bool) -> Callable[[str], None]:
    def announce(url: str) -> None:
        text = json.dumps({"event": "listening", "url": url}) if as_json else f"listening on {url}"
        typer.echo(text)
        sys.stdout.flush()

    return announce


@contextmanager
def _leaving_when_asked(words: bytes = b"") -> Iterator[None]:
    """Leave at once, with `words`, on SIGTERM and SIGINT wherever the trainer does not handle them itself.

    Everything on disk is written whole or not at all, so leaving is safe. Raising out of the handler is not: a library
    that is just being imported may catch the exception and go on half imported.
    """

    def leave(*_: object) -> None:
        os.write(2, words)
        os._exit(EXIT_RESUMABLE)

    previous = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def main() -> None:
    """The `corelane` command."""
    cli()
