"""The commands that do the work: make a project, train, package, score, serve, and try out a machine."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

import corelane
from corelane import app as rooms
from corelane.cli.counting import counted_rows
from corelane.cli.options import ConfigFile, Json, Overrides, PackagePath, load_shape, load_steps, named_values
from corelane.cli.outcome import (
    STOPPED,
    facts_text,
    leaving_when_asked,
    print_result,
    reported,
)
from corelane.core.errors import CorelaneError
from corelane.machine.exit_codes import EXIT_USER, worker_exit_code
from corelane.machine.leave_out import leave_out

cli = typer.Typer(
    name="corelane",
    help="Train, package and serve neural networks on CPUs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_STOPPED = f"{STOPPED} with --resume\n".encode()


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
    with reported(as_json):
        result = rooms.project.create(directory, template, data=data, target=target)
        print_result(result, as_json, lambda made: f"made {made['config']}\nnext: corelane train {made['config']}")


@cli.command(epilog="Example: corelane train config.yaml --set train.epochs=3")
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the newest run, if there is one.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail on a broken checkpoint; else an older is used.")
    ] = False,
    runs: Annotated[Path, typer.Option(help="The folder that holds runs.")] = Path("runs"),
    packages: Annotated[Path | None, typer.Option(help="The folder that holds packages.")] = None,
    package: Annotated[bool, typer.Option(help="Package the best checkpoint when training is done.")] = True,
    watch: Annotated[bool, typer.Option("--watch", help="Draw the loss curves in the terminal.")] = False,
    as_json: Json = False,
) -> None:
    """Train on the configured data, and package the best model."""
    with reported(as_json), leaving_when_asked(_STOPPED):
        result = rooms.training.train_supervised(
            config, overrides or (), runs=runs, resume=resume, quiet=as_json, watch=watch, strict=strict
        )
        if package:
            result["package"] = str(rooms.packaging.packaged(Path(result["run"]), directory=packages))
        print_result(result, as_json, _trained)


@cli.command("train-worker", hidden=True)
def train_worker(
    run: Annotated[Path, typer.Option(help="The run directory.")],
    resume: Annotated[bool, typer.Option("--resume")] = False,
    quiet: Annotated[bool, typer.Option("--quiet")] = False,
    watch: Annotated[bool, typer.Option("--watch")] = False,
    strict: Annotated[bool, typer.Option("--strict")] = False,
    until_step: Annotated[float, typer.Option(help="Save and stop after this step.")] = math.inf,
) -> None:
    """The trainer's own process, started by `corelane train`."""
    try:
        with leaving_when_asked():
            rooms.training.train_run(run, resume=resume, quiet=quiet, watch=watch, strict=strict, until_step=until_step)
    except CorelaneError as error:  # the parent reads it from the run directory and tells it
        raise typer.Exit(worker_exit_code(error)) from error


@cli.command(epilog="Example: corelane package runs/digits-001")
def package(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    packages: Annotated[Path | None, typer.Option(help="The folder that holds packages.")] = None,
    as_json: Json = False,
) -> None:
    """Turn a run's best checkpoint into a package, if the server reproduces its answers."""
    with reported(as_json):
        print_result({"package": str(rooms.packaging.package(run, directory=packages))}, as_json, facts_text)


@cli.command("import-model", epilog="Example: corelane import-model bert.onnx --data sentences.parquet")
def import_model(
    model: Annotated[str, typer.Argument(help="An ONNX file, or package.module:Class of a torch.nn.Module.")],
    data: Annotated[
        str | None, typer.Option(help="Rows with a column for each input, by name: to compare, and as samples.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="The module's weights, a safetensors file.")] = None,
    arguments: Annotated[
        list[str] | None, typer.Option("--argument", help="For the module's constructor, name=value; repeat it.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The package's name; the file's or class's by default.")] = None,
    packages: Annotated[Path | None, typer.Option(help="The folder that holds packages.")] = None,
    include_rows: Annotated[bool, typer.Option(help="Keep rows of --data in the package.")] = True,
    max_length: Annotated[int, typer.Option(min=1, help="Longest that a free length of a served row may be.")] = 8192,
    labels: Annotated[str | None, typer.Option(help="The label file of an IDX image file.")] = None,
    as_json: Json = False,
) -> None:
    """Make a package of a network that was not trained here, if the server reproduces its answers."""
    with reported(as_json):
        result = rooms.importing.import_model(
            model,
            data=data,
            labels=labels,
            weights=weights,
            arguments=named_values(arguments or ()),
            name=name,
            directory=packages,
            include_rows=include_rows,
            max_length=max_length,
        )
        print_result(result, as_json, facts_text)


@cli.command("import-worker", hidden=True)
def import_worker(
    folder: Annotated[Path, typer.Argument(help="Where the model lies, and what is found of it will.")],
    processor_s: Annotated[int, typer.Option(help="Seconds of one CPU.")],
) -> None:
    """The process that judges a foreign model, started by `corelane import-model`."""
    raise typer.Exit(rooms.foreign.judge(folder, processor_s=processor_s))


@cli.command(epilog="Example: corelane evaluate packages/digits/1 --input test.csv")
def evaluate(
    package: PackagePath,
    data: Annotated[str, typer.Option("--input", help="Rows with their target: CSV, Parquet, IDX or image folder.")],
    labels: Annotated[str | None, typer.Option(help="The label file of an IDX image file.")] = None,
    as_json: Json = False,
) -> None:
    """Score a package on labelled data."""
    with reported(as_json):
        print_result(rooms.scoring.evaluate(package, data, labels=labels), as_json, facts_text)


@cli.command(epilog="Example: corelane predict packages/digits/1 --input new.csv --output answers.parquet")
def predict(
    package: PackagePath,
    data: Annotated[str, typer.Option("--input", help="Rows: a file, a folder, a URL, or a database's URL#table.")],
    output: Annotated[
        str, typer.Option(help="Where answers go: .parquet, .csv, .jsonl, or a database's URL#table, a new one.")
    ],
    labels: Annotated[str | None, typer.Option(help="The label file of an IDX image file.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep answers in OUTPUT.parts until all are there; go on with those kept.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Predict every row of a data set, in order."""
    with reported(as_json):
        with counted_rows("scored", quiet=as_json) as on_rows:
            result = rooms.scoring.predict(package, data, output, labels=labels, resume=resume, on_rows=on_rows)
        print_result(result, as_json, facts_text)


@cli.command(epilog="Example: corelane serve packages/digits --port 8000 --workers 2")
def serve(
    packages: Annotated[list[Path] | None, typer.Argument(help="Packages to serve.")] = None,
    config: Annotated[Path | None, typer.Option(help="A configuration file; its `serve` section is used.")] = None,
    overrides: Overrides = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 by default.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 8000 by default, 0 for any free one.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Port of gRPC, 0 for any free one; none without.")] = None,
    management_port: Annotated[
        str | None, typer.Option(help="Port of management on loopback, 0 for any free one; none without.")
    ] = None,
    workers: Annotated[str | None, typer.Option(help="Processes that share the port: a number, or auto; 1.")] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file of the certificate: HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its key.")] = None,
    tokens: Annotated[Path | None, typer.Option(help="File of tokens that callers must bring.")] = None,
    insecure: Annotated[bool, typer.Option(help="Listen off loopback without TLS and tokens all the same.")] = False,
    slo: Annotated[
        str | None, typer.Option(help="Latency to hold, like p99=20ms: deadline, batches, admission.")
    ] = None,
    registry: Annotated[
        str | None, typer.Option(help="A registry of models, a folder or a URL; its aliases are followed.")
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model", help="A model of the registry: name (its champion), name@alias or name@version; repeat it."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve packages over REST, and gRPC where a port is given, until stopped."""
    leave_out("pandas", "rich")
    with reported(as_json):
        options: dict[str, object] = {
            "host": host,
            "port": port,
            "grpc_port": grpc_port,
            "management_port": management_port,
            "workers": workers,
            "slo": slo,
            "tls_certificate": tls_certificate,
            "tls_key": tls_key,
            "tokens": tokens,
        }
        settings = [
            *(overrides or ()),
            *(["serve.insecure=true"] if insecure else ()),
            *(f"serve.{key}={value}" for key, value in options.items() if value is not None),
        ]
        code = rooms.serving.serve(
            packages or [],
            config=config,
            overrides=settings,
            registry=registry,
            models=models or [],
            announce=_announce(as_json, "url", "listening on"),
            announce_grpc=_announce(as_json, "grpc_port", "gRPC on port"),
            announce_management=_announce(as_json, "management_url", "management on"),
        )
        raise typer.Exit(code)


@cli.command(epilog="Example: corelane load http://127.0.0.1:8000 --model churn --steps 100:10,200:10")
def load(
    url: Annotated[str, typer.Argument(help="The server.")],
    model: Annotated[str, typer.Option(help="The model to ask.")],
    rate: Annotated[float, typer.Option(help="Requests a second.")] = 100.0,
    duration: Annotated[float, typer.Option(help="Seconds.")] = 10.0,
    steps: Annotated[str | None, typer.Option(help="rate:seconds,rate:seconds... in place of the two.")] = None,
    shape: Annotated[str, typer.Option(help="poisson (at random) or constant (evenly spaced).")] = "poisson",
    rows: Annotated[int, typer.Option(help="Rows a request.")] = 1,
    records: Annotated[Path | None, typer.Option(help="Records to ask, a file of JSON lines; made up without.")] = None,
    processes: Annotated[int, typer.Option(help="Processes that share the load.")] = 1,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which an answer is of no more use.")] = None,
    seed: Annotated[int, typer.Option(help="Of the times and the made-up rows.")] = 0,
    as_json: Json = False,
) -> None:
    """Put a load on a server: each request at its time, however slow the answers are."""
    with reported(as_json):
        result = rooms.loading.load(
            url,
            model,
            load_steps(steps) if steps is not None else [(rate, duration)],
            shape=load_shape(shape),
            rows=rows,
            records=records,
            processes=processes,
            timeout_s=timeout,
            seed=seed,
        )
        print_result(result, as_json, facts_text)


@cli.command(epilog="Example: corelane doctor config.yaml")
def doctor(
    config: Annotated[Path | None, typer.Argument(help="A configuration to try out; none tries a bundled one.")] = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Print what this machine is, and do a dry run: data, a batch, a step, a save, an inference."""
    with reported(as_json):
        report = rooms.doctor.examine(config, overrides or ())
        print_result(report, as_json, facts_text)
        if not report["healthy"]:
            raise typer.Exit(EXIT_USER)


def _trained(result: Mapping[str, Any]) -> str:
    """A run's outcome, and what to type next."""
    shown = {key: value for key, value in result.items() if key != "version" and value != []}
    package = result.get("package")
    follow = f"corelane serve {package}" if package else f"corelane package {result['run']}"
    return f"{facts_text(shown)}\nnext: {follow}"


def _announce(as_json: bool, key: str, words: str) -> Callable[[str | int], None]:
    def announce(what: str | int) -> None:
        typer.echo(json.dumps({"event": "listening", key: what}) if as_json else f"{words} {what}")
        sys.stdout.flush()

    return announce
