"""`corelane verify-resume`: the proof that a run goes on from its checkpoints as if it had never stopped.

In a scratch directory a process of its own resumes from a checkpoint and trains on to a later one of the run; the files
of both must be equal, byte for byte. Where the run has no later one, or a number of steps is asked for, two processes
replay the same steps and are compared with each other. The outcome is kept in the run, `resume_certificate.json`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from corelane.app.config import spin_setting
from corelane.app.replay_copy import STATE, make_scratch, taken_stretch
from corelane.app.runs import raise_recorded_error
from corelane.core.clock import SystemClock
from corelane.core.errors import InterruptedRunError
from corelane.core.types import JsonObject
from corelane.machine.child import Child
from corelane.machine.stop_signals import StopSignals
from corelane.store.bundle import write_atomic
from corelane.train.retention import saved_steps

CERTIFICATE = "resume_certificate.json"
DEFAULT_STEPS = 20
POLL_S = 0.05  # how soon a request to stop is answered
VARYING = ("saved_at", "notes", "environment")  # of a state: what no two runs share, and what `environment` compares


def verify_resume(run: Path, *, steps: int | None = None) -> JsonObject:
    """Replay and compare; `is_equal`, the steps, each file's SHA-256 and the names of what differs.

    Raises `ConfigError` when the run has no checkpoint to go on from, `BundleError` when one of them is broken,
    `InterruptedRunError` when asked to stop, and whatever ends the replay.
    """
    with TemporaryDirectory(prefix="corelane-replay-") as name, StopSignals() as signals:
        folder = Path(name)
        taken = folder / "checkpoints"
        first, second = taken_stretch(run, steps, taken)
        target = None if second is None else taken / str(second)

        def replayed(place: str, until_step: int) -> Path:
            copy = folder / place / run.name
            make_scratch(run, taken / str(first), target, copy)
            return _replayed(copy, until_step, signals.is_asked)

        expected = target or replayed("once", first + (steps or DEFAULT_STEPS))
        compared = "two replays" if target is None else "a replay with the run's own"
        second = int(expected.name)
        replay = replayed("again", second)
        differences = _differences(expected, replay)
        answer: JsonObject = {
            "version": 1,
            "run": run.name,
            "from_step": first,
            "to_step": second,
            "compared": compared,
            "is_equal": not differences,
            "sha256": {path.name: _digest(path) for path in sorted(replay.iterdir()) if path.suffix != ".json"},
            "differences": differences,
            "environment": json.loads((replay / STATE).read_bytes())["environment"],
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


def _replayed(copy: Path, until_step: int, is_asked: Callable[[], bool]) -> Path:
    """The newest checkpoint of `copy` after a process has resumed it and trained until a step, or to its end.

    Raises `InterruptedRunError`, when that process is gone, once `is_asked`.
    """
    argv = [*spin_setting(), sys.executable, "-m", "corelane", "train-worker", "--run", str(copy)]
    child = Child([*argv, "--resume", "--strict", "--quiet", "--until-step", str(until_step)])
    try:
        while (code := child.poll()) is None:
            if is_asked():
                raise InterruptedRunError(
                    "the replay must run to its end, got a request to stop; the run is as it was, run the same command "
                    "again"
                )
            SystemClock().sleep(POLL_S)
    finally:
        child.kill()
    with suppress(InterruptedRunError):  # it stopped where it should
        raise_recorded_error(copy, code)
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
