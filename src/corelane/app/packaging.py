"""From a run to a package: the best weights, the exported graph, golden rows, and the skew gate before publication."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from torch import nn

from corelane.app.archiving import archive_package
from corelane.app.config import RootConfig, dump, load_root
from corelane.app.package_paths import digest_of, published
from corelane.app.recording import record_package
from corelane.app.run_records import run_key
from corelane.app.runs import CONFIG_NAME, RESULT_NAME, RunData, is_finished, open_run_data, read_result
from corelane.app.serving import child_server, served_predict
from corelane.app.snapshots import kept_export
from corelane.app.tiers import lasting_tiers
from corelane.app.training import Run
from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import BundleError, ConfigError
from corelane.model.description import Provenance
from corelane.model.export import Export, package_contents, reference_predictor
from corelane.model.nets.build import build_for
from corelane.model.package import write_package
from corelane.model.skew import Tolerance, skew_gate
from corelane.observe.log import SystemLogger
from corelane.train.checkpoint import read_checkpoint


def package(run: Run | Path | str, *, directory: Path | str | None = None, clock: Clock | None = None) -> Path:
    """Publish the best checkpoint of a finished `run` as the next version of its package; return the package's path.

    The staged package is served by a real server in a child process, and its answers to held-out rows must equal those
    of the training path. Raises `SkewError` (nothing is published), `ConfigError` for a run that is not finished or
    whose module cannot be rebuilt, `BundleError` for damaged files.
    """
    path = run.directory if isinstance(run, Run) else Path(run)
    if not (path / CONFIG_NAME).is_file():
        raise ConfigError(f"{path} must be a run directory, got none; give the folder that `corelane train` printed")
    if not is_finished(path):
        raise ConfigError(f"{path} must be a finished run, got one without a result; resume it with --resume")
    root = load_root(path / CONFIG_NAME)
    config_digest = hashlib.sha256(dump(root).encode()).hexdigest()
    data = open_run_data(path)
    root = root.model_copy(update={"model": data.model or root.model})
    result = read_result(path)
    module = run.module if isinstance(run, Run) else _best_module(path, root, data, result["num_steps"])
    contents = package_contents(
        module,
        data,
        name=root.name,
        config=root.model,
        metrics=result["metrics"],
        config_digest=config_digest,
        created_s=(clock or SystemClock()).now(),
        include_rows=root.package.include_rows,
        # A module that comes from Python may be another than its configuration says.
        export=None if isinstance(run, Run) else _kept_export(root, data),
    )
    contents = replace(contents, provenance=_traced(contents.provenance, path, result["num_steps"]))

    def gate(staged: Path) -> None:
        reference, tolerance = reference_predictor(module, data), Tolerance.fp32(data.pipeline.target)
        with child_server(staged) as url:
            skew_gate(reference, data.gate, lambda rows: served_predict(url, staged, rows), tolerance)

    made = write_package(Path(directory or root.package.directory), contents, gate)
    record_package(made, path.absolute().parent, root.observe)
    archive_package(made, root)
    return made


def packaged(run: Path | str, *, directory: Path | str | None = None) -> Path:
    """The package of a finished `run`: the newest one there that has its weights, or else a new version.

    Raises what `package` raises.
    """
    return published(Path(run), directory) or package(run, directory=directory)


def _kept_export(root: RootConfig, data: RunData) -> Export:
    with SystemLogger(root.observe, terminal_level="warning") as logger:
        return kept_export(root.model, lasting_tiers(root, logger), data.pipeline.digest)


def _traced(provenance: Provenance, path: Path, num_steps: int) -> Provenance:
    """With the run's key, and the digest of the checkpoint where the weights are from; None if it is gone."""
    return provenance.model_copy(update={"run": run_key(path), "checkpoint": digest_of(path, num_steps)})


def _best_module(path: Path, root: RootConfig, data: RunData, num_steps: int) -> nn.Module:
    """The net with the weights that the result tells of: those of the checkpoint at the run's end, and of no other."""
    if data.has_own_module:
        raise ConfigError(
            f"{path} was trained with a module from Python; package it there with `corelane.app.package(run)`"
        )
    module = build_for(root.model, data.pipeline, seed=root.seed)
    try:
        checkpoint = read_checkpoint(path / "checkpoints" / str(num_steps))
    except BundleError as error:
        again = f"or train the last steps again: remove {path / RESULT_NAME}, then `corelane train --resume`"
        raise BundleError(f"{error.message}; {again}", detail=error.detail) from error
    (checkpoint.best or checkpoint.model).load_into(module)
    return module
