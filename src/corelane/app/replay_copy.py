"""What a replay starts from: the checkpoints of a stretch of a run, copied, and scratch runs at its beginning.

`replay.py` calls it. The run itself may be trained meanwhile, and is only read.
"""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

from corelane.app.config import RootConfig, data_section, dump, load_root
from corelane.app.runs import CONFIG_NAME, RUN_NAME, open_run_data
from corelane.core.errors import BundleError, ConfigError
from corelane.core.types import JsonObject
from corelane.store.bundle import verify_bundle, write_atomic
from corelane.train.micro_batch import recorded_rows
from corelane.train.plan import FILE as PLAN_NAME
from corelane.train.retention import saved_steps
from corelane.train.suspects import read_suspects, write_suspects

KIND = "checkpoint"
STATE = "state.json"
NUM_TRIES = 5  # a run that removes what is being copied so often saves faster than the disk copies


def taken_stretch(run: Path, steps: int | None, folder: Path) -> tuple[int, int | None]:
    """From which checkpoint to go on, and to which (None where replays are compared with each other); `folder` gets
    copies of them, whole: a run in progress removes its own meanwhile.

    Raises `ConfigError` when there is none to go on from, or they went too fast; `BundleError` when one is broken.
    """
    _check_replayable(run)
    for _ in range(NUM_TRIES):
        found = saved_steps(run / "checkpoints")
        try:
            return _copied(run, _stretch(run, found, steps), folder)
        except (BundleError, OSError):
            if saved_steps(run / "checkpoints") == found:
                raise
            shutil.rmtree(folder, ignore_errors=True)
    raise ConfigError(
        f"{run} must keep its checkpoints until they are copied, got newer ones {NUM_TRIES} times; raise "
        "train.keep_checkpoints or train.save_interval, or wait for its end"
    )


def make_scratch(run: Path, start: Path, target: Path | None, copy: Path) -> None:
    """Make `copy` the run as it was at the checkpoint `start`, to be trained as it was up to `target`.

    What the run only did later otherwise than configured (rows left out, smaller pieces of a batch) is left out, and
    nothing is mirrored: the copies in shared storage are those of the run.
    """
    (copy / "checkpoints").mkdir(parents=True)
    for name in (RUN_NAME, PLAN_NAME):
        if (run / name).exists():
            shutil.copy2(run / name, copy / name)
    shutil.copytree(run / "data", copy / "data")
    shutil.copytree(start, copy / "checkpoints" / start.name)
    reached = target or start
    write_suspects(copy, [suspect for suspect in read_suspects(run) if suspect.since < int(reached.name)])
    root = _as_trained(load_root(run / CONFIG_NAME), run, _state(reached))
    write_atomic(copy / CONFIG_NAME, dump(root).encode())


def _as_trained(root: RootConfig, run: Path, state: JsonObject) -> RootConfig:
    """The configuration of `run`, with the rows at once that the checkpoint with `state` was made with."""
    train = root.train
    changes: dict[str, object] = {"mirror_checkpoints": False}
    if recorded_rows(run) is not None or train.micro_batch_size is not None:
        rows = state["parts"]["micro_batch"]["rows"]
        if rows != (train.micro_batch_size or train.batch_size):
            changes["micro_batch_size"] = rows if rows < train.batch_size else None
    return root.model_copy(update={"train": train.model_copy(update=changes)})


def _copied(run: Path, stretch: tuple[int, int | None], folder: Path) -> tuple[int, int | None]:
    for step in stretch:
        if step is not None:
            shutil.copytree(run / "checkpoints" / str(step), folder / str(step))
            verify_bundle(folder / str(step), KIND)
    return stretch


def _stretch(run: Path, found: list[int], steps: int | None) -> tuple[int, int | None]:
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
    verify_bundle(checkpoint, KIND, believed=lambda name: name != STATE)  # the two that are used are verified as copies
    return bool(_state(checkpoint)["counters"]["is_finished"])


def _state(checkpoint: Path) -> JsonObject:
    state: JsonObject = json.loads((checkpoint / STATE).read_bytes())
    return state
