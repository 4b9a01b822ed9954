"""What is behind `corelane checkpoints list|verify|prune`: the checkpoints of a run, as plain dicts.

`checkpoints_text.py` shows them on a terminal. Nothing here imports torch, and nothing is changed but by `prune`, which
needs the run for itself.
"""

from __future__ import annotations

import json
from pathlib import Path

from corelane.app.config import load_root
from corelane.app.runs import CONFIG_NAME, LOCK_NAME, held
from corelane.core.clock import SystemClock
from corelane.core.errors import BundleError, ConfigError
from corelane.core.types import JsonObject
from corelane.store.bundle import verify_bundle
from corelane.store.durable import discard, remove_temporaries
from corelane.store.lease import Lease, describe, newest_generation, read_holder
from corelane.train.retention import Retention, loss_in, read_loss, saved_steps

KIND = "checkpoint"


def list_checkpoints(run: Path) -> JsonObject:
    """The run's checkpoints, oldest first: step, epoch, bytes, when they were saved, validation loss, which is best.

    Raises `ConfigError` when `run` is no run's directory.
    """
    folder = _folder(run)
    facts = [_facts(folder / str(step), step) for step in saved_steps(folder)]
    found = [one for one in facts if (folder / str(one["step"])).is_dir()]  # a run in progress removes some meanwhile
    return {
        "run": str(run),
        "checkpoints": found,
        "set_aside": sorted(path.name for path in folder.glob("*.broken")),
        "held_by": _holder(run),
    }


def verify(run: Path) -> JsonObject:
    """Hash every checkpoint of the run: `whole` steps, and `broken` ones with the reason.

    Raises `ConfigError` when `run` is no run's directory.
    """
    folder = _folder(run)
    whole, broken = [], []
    for step in saved_steps(folder):
        reason = _fault(folder / str(step))
        if reason is None:
            whole.append(step)
        elif (folder / str(step)).exists():  # else the run has removed it meanwhile
            broken.append({"step": step, "reason": reason})
    return {"run": str(run), "whole": whole, "broken": broken, "newest_whole": max(whole, default=None)}


def prune(run: Path, *, last: int | None = None, best: int | None = None, every: int | None = None) -> JsonObject:
    """Remove what need not stay, by the given numbers or else those of the run's configuration; two whole ones stay.

    Raises `ConfigError` when `run` is no run's directory or is being trained, `RunLockedError` when another host trains
    it.
    """
    folder = _folder(run)
    config = load_root(run / CONFIG_NAME).train
    retention = Retention(
        config.keep_checkpoints if last is None else last,
        config.keep_best_checkpoints if best is None else best,
        (config.keep_checkpoint_every or 0) if every is None else every,
    )
    lease = Lease(run / LOCK_NAME, clock=SystemClock(), tell=lambda *_: None)
    with held(run):
        lease.acquire()
        try:
            remove_temporaries(folder)
            steps = saved_steps(folder)
            losses = {step: read_loss(folder / str(step) / "state.json") for step in steps}
            removed = retention.doomed(losses, lambda step: _fault(folder / str(step)) is None)
            freed_bytes = sum(_num_bytes(folder / str(step)) for step in removed)
            for step in removed:
                lease.check()
                discard(folder / str(step))
        finally:
            lease.release()
    return {"run": str(run), "removed": removed, "kept": saved_steps(folder), "freed_bytes": freed_bytes}


def _folder(run: Path) -> Path:
    if not (run / CONFIG_NAME).is_file():
        raise ConfigError(f"{run} must be a run's directory, got one without {CONFIG_NAME}; see `corelane runs list`")
    return run / "checkpoints"


def _facts(path: Path, step: int) -> JsonObject:
    facts: JsonObject = {"step": step, "bytes": _num_bytes(path)}
    try:
        state = json.loads((path / "state.json").read_bytes())
        counters = state["counters"]
        facts |= {
            "epoch": counters["epoch"],
            "saved_at_s": state["saved_at"],
            "validation_loss": loss_in(state["metrics"]),
            "best_step": counters["best_step"],
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        facts["reason"] = f"its state cannot be read ({type(error).__name__})"
    return facts


def _fault(path: Path) -> str | None:
    try:
        verify_bundle(path, KIND)
    except (BundleError, OSError) as error:
        return str(error)
    return None


def _num_bytes(path: Path) -> int:
    try:
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    except FileNotFoundError:  # a run in progress removes it
        return 0


def _holder(run: Path) -> str | None:
    newest = newest_generation(run / LOCK_NAME)
    holder = read_holder(run / LOCK_NAME, newest)
    return describe(holder) if holder else None
