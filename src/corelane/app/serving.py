"""From packages and a configuration to a running server; and a short-lived real server for the skew gate to ask.

Nothing here imports torch: a served ONNX package must not load it.
"""

from __future__ import annotations

import math
import select
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson
import pyarrow as pa

from corelane.app.config import RootConfig, cache_directory, load_root
from corelane.app.following import following, plan_place
from corelane.app.idle_planning import planning_beside
from corelane.app.package_paths import resolve_package
from corelane.app.record_files import bundle_facts
from corelane.app.recording import recorded_servings
from corelane.core.config import parse_config
from corelane.core.errors import BundleError, ConfigError, SkewError
from corelane.core.types import Array
from corelane.machine.child import tied_argv
from corelane.machine.cpu import Machine
from corelane.machine.process import resident_bytes
from corelane.model.package import ModelPackage
from corelane.model.skew import raw_columns
from corelane.observe.log import SystemLogger
from corelane.serve import run as serve_run
from corelane.serve.origin import first_packages
from corelane.serve.schemas import json_values

RUNS = "runs"  # beside the configuration, or here: where servings are noted, if it is there
GATE_ROWS = 100  # rows a request: a hundred 224x224 colour images in JSON stay under the server's body limit
GATE_ELEMENTS = 1 << 19  # numbers a request: ten megabytes of JSON
GATE_BODY = 512 << 20  # bytes: one row of the most elements that a row may have, in JSON
GATE_TIMEOUT_S = 60.0
ERROR_LINES, ERROR_CHARACTERS = 5, 2000  # of a server that does not start: the reason is in the last ones


def serve(
    packages: Sequence[Path | str] = (),
    *,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    announce: Callable[[str], None] = print,
    announce_grpc: Callable[[int], None] = lambda _: None,
    announce_management: Callable[[str], None] = lambda _: None,
    registry: Path | str | None = None,
    models: Sequence[str] = (),
) -> int:
    """Serve `packages` (or those that the configuration names) until SIGTERM or SIGINT; return the exit code.

    `models` are those of `registry` to serve and follow: `name` (its champion), `name@alias` or `name@version`.
    `announce` is called once with the server's URL when it accepts requests; then, if it has them, `announce_grpc` with
    the port of gRPC and `announce_management` with the URL of management. Raises `ConfigError`, `BundleError`,
    `NotFoundError` and `PortInUseError` before all that.
    """
    root = load_root(config, overrides) if config is not None else _default_root(overrides)
    folder = config.resolve().parent if config is not None else Path()
    if not packages and not models:
        packages, models = [folder / path for path in root.serve.packages], root.serve.models
    paths = [resolve_package(path) for path in packages]
    if not paths and not models and root.serve.model_control == "none":
        raise ConfigError("serve must be given a package, got none; name one, or list them under serve.packages")
    logger = SystemLogger(root.observe, read_memory_bytes=resident_bytes)
    machine = Machine.detect()
    root = root.model_copy(update={"serve": root.serve.with_workers(machine.budget(root.machine).threads)})

    def announce_and_note(listening: serve_run.Listening) -> None:
        announce(listening.url)
        if listening.grpc_port is not None:
            announce_grpc(listening.grpc_port)
        if listening.management_url is not None:
            announce_management(listening.management_url)
        note(listening.url)

    try:
        with ExitStack() as beside:
            is_planning = root.serve.plan != "safe"
            unplanned = beside.enter_context(planning_beside(cache_directory(root))) if is_planning else None
            plans = plan_place(root, machine, unplanned)
            followed = beside.enter_context(following(registry, models, root, folder, plans))
            chosen = first_packages(followed) if followed is not None else []
            servings = recorded_servings([*paths, *chosen], folder / RUNS, root.observe.metadata, logger=logger)
            note = beside.enter_context(servings)
            return serve_run.serve(
                paths,
                root.serve,
                plans=[plans.of(_digest(path)) for path in paths],
                followed=followed,
                observe=root.observe,
                logger=logger,
                machine=machine,
                memory_bytes=machine.budget(root.machine).memory_bytes,
                announce=announce_and_note,
            )
    finally:
        logger.close()


def _digest(path: Path) -> str:
    """The digest of the package, by its manifest alone; nothing for a broken one, which the server will tell of."""
    with suppress(BundleError):
        return bundle_facts(path, "package").digest
    return ""


def _default_root(overrides: Sequence[str]) -> RootConfig:
    return parse_config("name: serve", RootConfig, overrides, name="the options")


# --- a real server for the gate ---------------------------------------------------------------------------------------


@contextmanager
def child_server(package: Path) -> Iterator[str]:
    """A server of `package` in a child process on a free port of loopback; yields its URL and stops it at the end."""
    argv = [sys.executable, "-m", "corelane", "serve", str(package), "--port", "0", "--json"]
    argv += ["--set", "observe.log_level=error", "--set", "serve.plan=safe", "--set", f"serve.max_body={GATE_BODY}"]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(tied_argv(argv), stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL) as child,
    ):
        try:
            yield _wait_until_listening(child, errors)
        finally:
            child.terminate()
            try:
                child.wait(timeout=GATE_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()


def served_predict(url: str, package: Path, rows: pa.RecordBatch) -> dict[str, Array]:
    """The running server's answers to checked raw `rows`, asked over HTTP in the Open Inference Protocol."""
    model = ModelPackage.load(package)
    route = f"{url}/v2/models/{model.name}/infer"
    step = GATE_ROWS if model.pipeline.target is not None else _tensor_rows(model, rows)
    answers = [_ask(route, oip_request(model, rows.slice(start, step))) for start in range(0, rows.num_rows, step)]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def _tensor_rows(package: ModelPackage, rows: pa.RecordBatch) -> int:
    """How many rows of somebody else's tensors a request may have: they can be of any size."""
    elements = sum(math.prod(values.shape[1:]) for values in package.pipeline.transform(rows.slice(0, 1)).values())
    return max(1, min(GATE_ROWS, GATE_ELEMENTS // max(1, elements)))


def oip_request(package: ModelPackage, rows: pa.RecordBatch) -> dict[str, Any]:
    """Checked raw `rows`, which are alike, as an Open Inference Protocol request: one tensor per column, null for a
    missing value.
    """
    columns = raw_columns(rows)
    inputs = []
    for tensor in package.signature.inputs:
        values = columns[tensor.name]
        if tensor.datatype == "BOOL":
            values = np.asarray(values, dtype=np.bool_)
        shape = [rows.num_rows, *tensor.shape[1:]]
        if package.pipeline.target is None:
            shape = list(np.shape(values))
        data = json_values(values)
        inputs.append({"name": tensor.name, "datatype": tensor.datatype, "shape": shape, "data": data})
    return {"inputs": inputs}


def _ask(url: str, body: Mapping[str, Any]) -> dict[str, Array]:
    request = urllib.request.Request(url, data=orjson.dumps(body), headers={"Content-Type": "application/json"})  # noqa: S310 - loopback
    try:
        with urllib.request.urlopen(request, timeout=GATE_TIMEOUT_S) as reply:  # noqa: S310
            outputs = orjson.loads(reply.read())["outputs"]
    except urllib.error.HTTPError as error:
        reason = error.read(2000).decode(errors="replace")
        raise SkewError(f"the server must answer the gate's rows, got status {error.code}: {reason}") from error
    except OSError as error:
        raise SkewError(f"the server must answer the gate's rows, got {error}") from error
    return {output["name"]: np.asarray(output["data"]).reshape(output["shape"]) for output in outputs}


def _wait_until_listening(child: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    is_heard = child.stdout is not None and bool(select.select([child.stdout], [], [], GATE_TIMEOUT_S)[0])
    line = child.stdout.readline() if is_heard and child.stdout is not None else b""
    try:
        return str(orjson.loads(line)["url"])
    except (orjson.JSONDecodeError, KeyError) as error:
        told = line.decode(errors="replace").strip() or f"nothing within {GATE_TIMEOUT_S:.0f} s or before it ended"
        raise SkewError(f"the gate's server must start, got {told}; {_last_lines(errors)}") from error


def _last_lines(errors: IO[bytes]) -> str:
    """The last that a server said in its log of errors."""
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return "its last errors: " + " | ".join(lines[-ERROR_LINES:])[-ERROR_CHARACTERS:] if lines else "it told no error"
