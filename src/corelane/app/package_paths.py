"""From what a user names to a package's folder: a version, the newest version of a package, or the package of a run.

A run that has none yet is packaged into its own folder, by a child process: nothing here imports torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from corelane.app.config import load_root
from corelane.app.package_records import checkpoint_digest, read_package
from corelane.app.record_files import BROKEN
from corelane.app.run_records import run_key
from corelane.app.runs import CONFIG_NAME, RUN_NAME, error_class, is_finished, read_result
from corelane.core.clock import SystemClock
from corelane.core.errors import ConfigError
from corelane.core.types import JsonObject
from corelane.machine.child import tied_argv
from corelane.model.package import versions_of
from corelane.store.hold import builder_lock

WAIT_S = 600.0  # for another one that packages the same run: a large network is exported in minutes
OWN = "package"  # in a run's folder: its package, where it was asked for without having one


def resolve_package(path: Path | str) -> Path:
    """The package at `path`: a version's folder, the newest version in a package's folder, or the package of a run.

    Raises `ConfigError` when it is none of these or the run is not finished, and what packaging the run raises.
    """
    path = Path(path)
    if (path / "manifest.json").exists() or (path / "package.json").exists():
        return path
    if (path / CONFIG_NAME).is_file() and (path / RUN_NAME).is_file():
        return _of_run(path)
    versions = versions_of(path)
    if not versions:
        raise ConfigError(
            f"{path} must be a package, a folder of its versions or a run, got none of them; run `corelane package`"
        )
    return path / str(versions[-1])


def published(run: Path, directory: Path | str | None) -> Path | None:
    """The newest whole package in `directory` (by default the configured one) that was made of the run's last
    checkpoint (of the run, where that is gone).
    """
    root = load_root(run / CONFIG_NAME)
    folder = Path(directory or root.package.directory) / root.name
    digest = digest_of(run, read_result(run)["num_steps"])
    for version in reversed(versions_of(folder)):
        with suppress(*BROKEN):
            found = read_package(folder / str(version))
            if found.run == run_key(run) and digest in (None, found.checkpoint):
                return folder / str(version)
    return None


def digest_of(run: Path, num_steps: int) -> str | None:
    """The digest of the checkpoint that the run ended with; None where it is gone."""
    try:
        return checkpoint_digest(run / "checkpoints" / str(num_steps))
    except BROKEN:
        return None


def _of_run(run: Path) -> Path:
    if not is_finished(run):
        raise ConfigError(f"{run} must be a finished run, got one without a result; resume it with --resume")
    return published(run, None) or published(run, run / OWN) or _packaged_once(run)


def _packaged_once(run: Path) -> Path:
    """The package of the run, made by whoever of several asks first."""
    with builder_lock(run / f"{OWN}.lock", wait_s=WAIT_S, clock=SystemClock(), tell=lambda _: None):
        return published(run, run / OWN) or _packaged(run)


def _packaged(run: Path) -> Path:
    argv = [sys.executable, "-m", "corelane", "package", str(run), "--packages", str(run / OWN), "--json"]
    done = subprocess.run(tied_argv(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    told = _last_line(done.stdout)
    if done.returncode or "package" not in told:
        raise error_class(told.get("code", ""))(told.get("error", f"{run} could not be packaged, see above"))
    return Path(told["package"])


def _last_line(printed: bytes) -> JsonObject:
    """What a command said at its end; a network's own code may have printed before it."""
    lines = printed.strip().splitlines()
    try:
        told = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
