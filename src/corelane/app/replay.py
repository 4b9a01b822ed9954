"""`corelane verify-resume`: the proof that a run goes on from its checkpoints as if it had never stopped.

In a scratch directory a process of its own resumes from a checkpoint and trains on to a later one of the run; the files
of both must be equal, byte for byte. Where the run has no later one, or a number of steps is asked for, two processes
replay the same steps and are compared with each other. The outcome is kept in the run, `resume_certificate.json`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from corelane.app.config import data_section, load_root, spin_setting
from corelane.app.runs import CONFIG_NAME, ERROR_NAME, HOLDER_NAME, RESULT_NAME, open_run_data, raise_recorded_error
from corelane.core.clock import SystemClock
from corelane.core.errors import ConfigError, InterruptedRunError
from corelane.core.types import JsonObject
from corelane.store.bundle import verify_bundle, write_atomic
from corelane.train.retention import saved_steps

CERTIFICATE = "resume_certificate.json"
KIND = "checkpoint"
STATE = "state.json"
DEFAULT_STEPS = 20
OUTCOMES = (RESULT_NAME, ERROR_NAME, HOLDER_NAME, CERTIFICATE, "report.html", "metrics.jsonl", "quarantine.parquet")
VARYING = ("saved_at", "notes", "environment")  # of a state: what no two runs share, and what `environment` compares


def verify_resume(run: Path, *, steps: int | None = None) -> JsonObject:
    """Replay and compare; `is_equal`, the steps, each file's SHA-256 and the names of what differs.

    Raises `ConfigError` when the run has no checkpoint to go on from, `BundleError` when one of them is broken, and
    whatever ends the replay.
    """
    first, second = _stretch(run, steps)
    with _scratch(run, first) as once, _scratch(run, first) as again:
        if second is None:
            second = first + (steps or DEFAULT_STEPS)
            expected, compared = _replayed(once, second), "two replays"
            second = int(expected.name)
        else:
            expected, compared = run / "checkpoints" / str(second), "a replay with the run's own"
        replayed = _replayed(again, second)
        differences = _differences(expected, replayed)
        answer: JsonObject = {
            "version": 1,
            "run": run.name,
            "from_step": first,
            "to_step": second,
            "compared": compared,
            "is_equal": not differences,
            "sha256": {path.name: _digest(path) for path in sorted(replayed.iterdir()) if path.suffix != ".json"},
            "differences": differences,
            "environment": json.loads((replayed / STATE).read_bytes())["environment"],
            "made_s": SystemClock().now(),
        }
    write_atomic(run / CERTIFICATE, json.dumps(answer, indent=2).encode())
    return answer


def read_certificate(run: Path) -> JsonObject | None:
    """The outcome of the last `verify_resume` of the run; None before the first."""
    try:
        content = json.loads((run / CERTIFICATE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _stretch(run: Path, steps: int | None) -> tuple[int, int | None]:
    """From which checkpoint to go on, and to which; None where replays are compared with each other."""
    _check_replayable(run)
    found = saved_steps(run / "checkpoints")
    begun = [step for step in found if not _is_finished(run / "checkpoints" / str(step))]
    if not begun:
        raise ConfigError(
            f"{run} must have a checkpoint before its end, got {found or 'none'}; train with a shorter "
            "train.save_interval"
        )
    pairs = [pair for pair in pairwise(found) if pair[0] in begun]
    return pairs[-1] if pairs and steps is None else (begun[-1], None)


def _check_replayable(run: Path) -> None:
    if not (run / CONFIG_NAME).is_file():
        raise ConfigError(f"{run} must be a run's directory, got one without {CONFIG_NAME}; see `corelane runs list`")
    is_in_memory = data_section(load_root(run / CONFIG_NAME)).source.type == "memory"
    if is_in_memory or open_run_data(run).has_own_module:
        raise ConfigError(
            f"{run} must be a run of the command line, got one with rows or a module from Python; train it once more "
            "with `corelane train`"
        )


def _is_finished(checkpoint: Path) -> bool:
    verify_bundle(checkpoint, KIND)
    return bool(json.loads((checkpoint / STATE).read_bytes())["counters"]["is_finished"])


@contextmanager
def _scratch(run: Path, step: int) -> Iterator[Path]:
    """A copy of the run as it was at `step`, outside the folder of runs; removed afterwards."""
    with TemporaryDirectory(prefix="corelane-replay-") as folder:
        copy = Path(folder) / run.name
        (copy / "checkpoints").mkdir(parents=True)
        for path in run.iterdir():
            if path.is_file() and path.name not in OUTCOMES:
                shutil.copy2(path, copy / path.name)
        for name in ("data", f"checkpoints/{step}"):
            shutil.copytree(run / name, copy / name)
        yield copy


def _replayed(copy: Path, until_step: int) -> Path:
    """The newest checkpoint of `copy` after a process has resumed it and trained until a step, or to its end."""
    argv = [*spin_setting(), sys.executable, "-m", "corelane", "train-worker", "--run", str(copy)]
    done = subprocess.run([*argv, "--resume", "--strict", "--quiet", "--until-step", str(until_step)], check=False)
    with suppress(InterruptedRunError):  # it stopped where it should
        raise_recorded_error(copy, done.returncode)
    return copy / "checkpoints" / str(saved_steps(copy / "checkpoints")[-1])


def _differences(expected: Path, replayed: Path) -> list[str]:
    """The files that are not equal; of the states, the entries that are not, but for times."""
    names = {path.name for folder in (expected, replayed) for path in folder.iterdir()} - {STATE, "manifest.json"}
    differing = [name for name in sorted(names) if _content(expected / name) != _content(replayed / name)]
    states = [_comparable(folder / STATE) for folder in (expected, replayed)]
    keys = sorted(states[0].keys() | states[1].keys())
    return differing + [f"{STATE}: {key}" for key in keys if states[0].get(key) != states[1].get(key)]


def _comparable(path: Path) -> JsonObject:
    state: JsonObject = json.loads(path.read_bytes())
    state["counters"] = {key: value for key, value in state["counters"].items() if key != "seconds"}
    return {key: value for key, value in state.items() if key not in VARYING}


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
