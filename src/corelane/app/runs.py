"""Run directories: their names, what packaging will need of the data, and how a child tells its parent what went wrong.

`runs/<name>-<number>/` is made once and never reused. Its `data/` bundle holds the fitted pipeline and samples of raw
rows, so that a run can be packaged after its source is gone.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from corelane.core import errors
from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import (
    ConfigError,
    CorelaneError,
    DiskFullError,
    InterruptedRunError,
    RunLockedError,
    TrainerFailedError,
    WorkerLostError,
)
from corelane.data.batch import Fingerprint
from corelane.data.pipeline import Pipeline
from corelane.data.prepared import PreparedData, read_table, write_table
from corelane.machine.backoff import ExponentialBackoff
from corelane.machine.exit_codes import EXIT_LOCKED, EXIT_OK, EXIT_OURS
from corelane.machine.health import HealthChecker
from corelane.machine.limits import limit_reached
from corelane.model.config import ModelConfig
from corelane.store.bundle import verify_bundle, write_atomic, write_bundle
from corelane.store.durable import sync_directory, temporary_directory
from corelane.store.lease import Lease, describe, this_process, try_lock

CONFIG_NAME = "config.yaml"
RUN_NAME = "run.json"  # what the run is called wherever its directory lies: a random key, and when it was made
RESULT_NAME = "result.json"
ERROR_NAME = "error.json"
LOCK_NAME = "lock"  # the folder of the trainer's lease
HOLDER_NAME = "holder.json"  # there while a process holds the run
DATA_KIND = "run-data"
SAMPLES = ("calibration", "holdout", "gate")
MAX_RUNS = 100_000  # names are looked for one by one; a folder with more runs of one name is not a human's


def new_run(runs: Path, name: str, config: str, *, clock: Clock | None = None) -> Path:
    """Make and return the first free `runs/<name>-<number>`; it appears whole, with `config` as its configuration."""
    for number in range(max(_numbered(runs, name), default=0) + 1, MAX_RUNS):
        directory = runs / f"{name}-{number:03d}"
        with temporary_directory(directory) as temporary:
            write_atomic(temporary / CONFIG_NAME, config.encode())
            facts = {"version": 1, "key": secrets.token_hex(16), "created_s": (clock or SystemClock()).now()}
            write_atomic(temporary / RUN_NAME, json.dumps(facts).encode())
            try:
                temporary.rename(directory)
            except OSError as error:
                if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                    continue  # another run started at the same time
                raise
        sync_directory(runs)
        return directory
    raise ConfigError(f"{runs} must hold fewer than {MAX_RUNS} runs of {name!r}; choose another name or folder")


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold the run for this process alone; the lock ends with the process, however it ends.

    Raises `ConfigError` when another process trains it, `RunLockedError` when one of another host does: two would
    overwrite each other's history and checkpoints. Where the file system has no locks, the trainer's lease decides.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    us = this_process(SystemClock())
    try:
        for attempt in ExponentialBackoff(3, initial_s=0.01, jitter_s=0.01).attempts(BlockingIOError):
            with attempt:  # whoever asks `is_held` has the lock for some microseconds
                _lock(descriptor)
        for attempt in ExponentialBackoff(5, initial_s=0.05, jitter_s=0.01).attempts(RunLockedError):
            with attempt:  # the trainer of a command that was killed dies with it, but not in the same moment
                Lease(directory / LOCK_NAME, clock=SystemClock(), tell=lambda *_: None).look()
    except RunLockedError:
        os.close(descriptor)
        raise
    except BlockingIOError as error:
        os.close(descriptor)
        raise ConfigError(
            f"{directory} must not be trained twice at a time, but it is locked by {_holder(directory)}; wait for it, "
            "or end it"
        ) from error
    try:
        with suppress(OSError):  # only for the words of whoever comes second
            (directory / HOLDER_NAME).write_text(json.dumps(us), encoding="utf-8")
        yield
    finally:
        if _holder(directory) == describe(us):  # else it names who has taken the run over
            (directory / HOLDER_NAME).unlink(missing_ok=True)
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    if try_lock(descriptor) is False:
        raise BlockingIOError


def _holder(directory: Path) -> str:
    try:
        return describe(json.loads((directory / HOLDER_NAME).read_bytes()))
    except (OSError, ValueError, AttributeError):
        return describe(None)


def _is_leased(directory: Path) -> bool:
    try:
        Lease(directory / LOCK_NAME, clock=SystemClock(), tell=lambda *_: None).look()
    except RunLockedError:
        return True
    return False


def is_held(directory: Path) -> bool:
    """Whether a process trains the run now."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        is_free = try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)
    return _is_leased(directory) if is_free is None else not is_free


def find_run(runs: Path, name: str) -> Path | None:
    """The newest run of `name` that can go on, or None: one that failed before its first checkpoint cannot."""
    found = _numbered(runs, name)
    numbered = {number: path for number, path in found.items() if not _never_began(path)}
    return numbered[max(numbered)] if numbered else None


def _never_began(directory: Path) -> bool:
    """A run that was asked to stop has begun; its checkpoints may be lost, and a mirror have them."""
    return _error_code(directory) not in (None, InterruptedRunError.code) and not any(
        (directory / "checkpoints").glob("[0-9]*")
    )


def _error_code(directory: Path) -> str | None:
    try:
        return str(json.loads((directory / ERROR_NAME).read_bytes())["code"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return ""


def is_finished(directory: Path) -> bool:
    """Whether the run has reached its end and written its result."""
    return (directory / RESULT_NAME).exists()


def read_result(directory: Path) -> dict[str, Any]:
    """The finished run's result, with the run's directory and report first."""
    result = json.loads((directory / RESULT_NAME).read_text(encoding="utf-8"))
    return {"run": str(directory), "report": str(directory / "report.html"), **result}


def _numbered(runs: Path, name: str) -> dict[int, Path]:
    pattern = re.compile(re.escape(name) + r"-(\d{3,6})")
    matches = ((pattern.fullmatch(path.name), path) for path in runs.glob(f"{name}-*"))
    return {int(match[1]): path for match, path in matches if match and (path / CONFIG_NAME).is_file()}


# --- what packaging needs ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunData:
    """The data side of a run: the fitted pipeline, sampled raw rows of the three parts, and where they came from."""

    pipeline: Pipeline
    calibration: pa.Table
    holdout: pa.Table
    gate: pa.Table
    fingerprint: Fingerprint
    has_own_module: bool
    model: ModelConfig | None  # with the network that the data got; None in a run of an earlier version


def save_run_data(directory: Path, data: PreparedData, *, has_own_module: bool, model: ModelConfig) -> ModelConfig:
    """Write the run's `data/` bundle, unless an earlier start of the same run has done so.

    Returns the `model` of the first start, so that a run keeps the network that was chosen for it. Raises `ConfigError`
    when the data are others than those of that start: its pipeline would be packaged with weights that never saw it.
    `BundleError` when what it wrote is broken.
    """
    target = directory / "data"
    if target.exists():
        facts = _facts(verify_bundle(target, DATA_KIND).path)
        if facts["prepared_digest"] != data.digest:
            raise ConfigError(
                f"the data of {directory} must be those that it began with, got others; restore them, or start a new"
                " run without --resume"
            )
        return _model(facts) or model
    facts = {
        "version": 1,
        "fingerprint": {"strength": data.fingerprint.strength, "digest": data.fingerprint.digest},
        "prepared_digest": data.digest,
        "num_rejected": data.num_rejected,
        "num_dropped": data.num_dropped,
        "num_deduplicated": data.num_deduplicated,
        "has_own_module": has_own_module,
        "model": model.model_dump(mode="json"),
    }
    with write_bundle(target, DATA_KIND) as folder:
        (folder / "pipeline.json").write_text(json.dumps(data.pipeline.to_json()), encoding="utf-8")
        (folder / "data.json").write_text(json.dumps(facts), encoding="utf-8")
        (folder / "profile.json").write_text(json.dumps(data.profile.to_json(), allow_nan=False), encoding="utf-8")
        for name in SAMPLES:
            write_table(folder / f"{name}.arrow", getattr(data, name))
    return model


def open_run_data(directory: Path) -> RunData:
    """Read the run's `data/` bundle. Raises `BundleError` when a file of it is broken, `ConfigError` without one."""
    if not (directory / "data").is_dir():
        raise ConfigError(f"{directory} must be a run directory with data/, got none; train it first")
    folder = verify_bundle(directory / "data", DATA_KIND).path
    facts = _facts(folder)
    return RunData(
        pipeline=Pipeline.from_json(json.loads((folder / "pipeline.json").read_text(encoding="utf-8"))),
        **{name: read_table(folder / f"{name}.arrow") for name in SAMPLES},
        fingerprint=Fingerprint(**facts["fingerprint"]),
        has_own_module=facts["has_own_module"],
        model=_model(facts),
    )


def _facts(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    return facts


def _model(facts: dict[str, Any]) -> ModelConfig | None:
    return ModelConfig(**facts["model"]) if "model" in facts else None


# --- errors across the process border ---------------------------------------------------------------------------------


@contextmanager
def recorded_errors(directory: Path) -> Iterator[None]:
    """Leave an error in the run directory on its way out, and none of an earlier start.

    What is not ours becomes so: `OutOfMemoryError`, `SystemLimitError` and `DiskFullError` where a limit of the system
    is behind it, `TrainerFailedError` where it would come again. Other trouble that may pass stays as it is. A
    `RunLockedError` leaves nothing: the run is another's now.
    """
    forget_error(directory)
    try:
        try:
            yield
        except CorelaneError:
            raise
        except Exception as error:
            ours = limit_reached(error)
            if ours is None and HealthChecker().is_recoverable(error):
                raise
            raise (ours or _failed(directory, error)) from error
    except RunLockedError:
        raise
    except CorelaneError as error:
        record = {"code": error.code, "message": error.message, "detail": error.detail}
        with suppress(OSError, DiskFullError):  # the exit code says the rest
            write_atomic(directory / ERROR_NAME, json.dumps(record).encode())
        raise


def _failed(directory: Path, error: Exception) -> TrainerFailedError:
    return TrainerFailedError(
        f"the trainer must not raise, got {type(error).__name__}: {error}; where is in {directory / 'logs'}"
    )


def forget_error(directory: Path) -> None:
    """Remove what an earlier start left, so that it is not taken for the next one's."""
    (directory / ERROR_NAME).unlink(missing_ok=True)


def raise_recorded_error(directory: Path, returncode: int, *, was_asked: bool = False) -> None:
    """Raise in this process what ended the child that trained `directory`; nothing when it ended well.

    `was_asked` says that it was to stop; then an end by a signal, before it could save, is an interruption.
    """
    path = directory / ERROR_NAME
    if returncode == EXIT_OK:
        return
    if returncode == EXIT_LOCKED:
        raise RunLockedError(
            f"{directory} must be trained by one process at a time, but another has taken it over from ours; leave it "
            "to that one, or end it and run the same command again with --resume"
        )
    if path.exists():
        record = json.loads(path.read_text(encoding="utf-8"))
        raise error_class(record["code"])(record["message"], detail=record["detail"])
    if was_asked and returncode != EXIT_OURS:
        raise InterruptedRunError(
            f"training must run to its end, got a request to stop; {directory} goes on from its newest checkpoint, "
            "run the same command again with --resume"
        )
    raise WorkerLostError(
        f"the trainer of {directory} must end well, got exit code {returncode}; see {directory / 'logs'}, "
        "then run the same command with --resume"
    )


def error_class(code: str) -> type[CorelaneError]:
    """The class of the error that another process told by its `code`."""
    classes = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, CorelaneError)]
    return next((error for error in classes if error.code == code), CorelaneError)
