"""Small prepared data sets, nets and whole runs that the tests of this room share. Not a test itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from corelane.core.clock import Clock, SystemClock
from corelane.core.types import Array, StatedTask
from corelane.data.batch import Fingerprint
from corelane.data.config import PipelineConfig
from corelane.data.dataset_profile import DataProfile
from corelane.data.pipeline import Pipeline
from corelane.data.prepared import PreparedData, PreparedPart
from corelane.data.processor import CPUDataProcessor
from corelane.data.schema import Column, Kind, Schema
from corelane.data.stages.cast_tensor import tensor_array
from corelane.machine.plan import Plan, Trial
from corelane.observe.config import ObserveConfig
from corelane.observe.log import SystemLogger
from corelane.store.tiers.arrays import map_arrays, write_arrays
from corelane.store.tiers.disk import DiskTier
from corelane.store.tiers.memory import MemoryTier
from corelane.train.candidates import default_candidate
from corelane.train.config import TrainConfig
from corelane.train.heartbeat import NO_HEART, Heart
from corelane.train.plan import Candidate, plan_of_run
from corelane.train.progress import SilentProgress, TrainingProgress
from corelane.train.record import Observer
from corelane.train.result import TrainResult
from corelane.train.run import NO_TIER, run_training


def classification(num_rows: int = 400, seed: int = 0, parts: tuple[float, float] = (0.7, 0.85)) -> PreparedData:
    """Eight numbers and one of three labels, which a small net learns well but not perfectly."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(num_rows, 8))
    scores = values[:, :3] + 0.5 * np.tanh(values[:, 3:6]) + 0.3 * random.normal(size=(num_rows, 3))
    return prepared(_numbers(values), np.array(["ant", "bee", "cat"])[scores.argmax(axis=1)], "classification", parts)


def regression(num_rows: int = 400, seed: int = 0) -> PreparedData:
    """Eight numbers and a target far from zero: about 5000, give or take 30."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(num_rows, 8))
    target = 5000 + 20 * values[:, 0] - 15 * values[:, 1] * values[:, 2] + 2 * random.normal(size=num_rows)
    return prepared(_numbers(values), target, "regression")


def pictures(num_rows: int = 240, seed: int = 0) -> PreparedData:
    """Grey pictures of 8 x 8: a bright spot in the left or in the right half."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 120, (num_rows, 8, 8, 1), dtype=np.uint8)
    right = random.integers(0, 2, num_rows)
    pixels[np.arange(num_rows), 4, 2 + 4 * right] = 255
    columns = {Column("image", "image", (8, 8, 1)): tensor_array(pixels)}
    return prepared(columns, np.array(["left", "right"])[right], "multi_class")


def binary(num_rows: int = 400, seed: int = 0) -> PreparedData:
    """Eight numbers and one of two labels, of which the positive one is rarer."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(num_rows, 8))
    is_positive = values[:, 0] + values[:, 1] * values[:, 2] + 0.3 * random.normal(size=num_rows) > 0.8
    return prepared(_numbers(values), np.where(is_positive, "yes", "no"), "binary")


def multi_label(num_rows: int = 400, seed: int = 0) -> PreparedData:
    """Eight numbers and three labels, of which a row may have any."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(num_rows, 8))
    has = values[:, :3] + 0.3 * random.normal(size=(num_rows, 3)) > [0.0, 0.5, 1.0]
    return prepared(_numbers(values), {"a": has[:, 0], "b": has[:, 1], "c": has[:, 2]}, "multi_label")


def prepared(
    columns: dict[Column, pa.Array],
    target: Array | dict[str, Array],
    task: StatedTask,
    parts: tuple[float, float] = (0.7, 0.85),
) -> PreparedData:
    """Columns and target through a real pipeline; the parts are cut at the given shares of the rows."""
    targets = target if isinstance(target, dict) else {"target": target}
    kind: Kind = "numeric" if task == "regression" else "categorical"
    schema = Schema(tuple(columns), tuple(Column(name, kind, nullable=False) for name in targets), task)
    names = [column.name for column in columns]
    raw = pa.RecordBatch.from_arrays([*columns.values(), *map(pa.array, targets.values())], names=[*names, *targets])
    rows = schema.check(raw, needs_target=True).rows
    first, second = (round(share * rows.num_rows) for share in parts)
    pipeline = Pipeline.build(schema, PipelineConfig()).fit([rows[:first]])
    cut = {"train": rows[:first], "validation": rows[first:second], "test": rows[second:]}
    empty = pa.table({})
    return PreparedData(
        pipeline=pipeline,
        **{name: _part(pipeline, part) for name, part in cut.items()},
        calibration=empty,
        holdout=empty,
        gate=empty,
        digest="content",
        num_rejected=0,
        fingerprint=Fingerprint("content", "made up"),
        profile=DataProfile(rows.num_rows, len(names) + 1, ()),
    )


def dropout_net(num_outputs: int = 3, seed: int = 0) -> nn.Module:
    """A small net with dropout, so that its training draws random numbers."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, num_outputs))


def picture_net(seed: int = 0) -> nn.Module:
    """Convolution, batch statistics and dropout: four-dimensional weights and buffers that change."""
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.2)),
        *(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4 * 4, 2)),
    )


def plan_for(config: TrainConfig, module: nn.Module, *, num_threads: int = 1) -> Plan[Candidate]:
    """The plan that is used where nothing is searched."""
    return fixed_plan(default_candidate(config, module, num_threads))


def fixed_plan(chosen: Candidate) -> Plan[Candidate]:
    """A plan with one candidate."""
    return Plan(key="example", candidates=(Trial(chosen, "fixed"),), chosen=chosen, reason="fixed")


def run(
    directory: Path,
    data: PreparedData,
    module: nn.Module,
    *,
    resume: bool = False,
    strict: bool = False,
    seed: int = 7,
    num_threads: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
    progress: TrainingProgress | None = None,
    clock: Clock | None = None,
    logger: SystemLogger | None = None,
    cache: MemoryTier | None = None,
    disk: DiskTier | None = None,
    observers: Sequence[Observer] = (),
    heart: Heart = NO_HEART,
    room_bytes: float = math.inf,
    plan: Plan[Candidate] | None = None,
    **settings: Any,
) -> TrainResult:
    """`run_training` with short intervals; `settings` override the training configuration."""
    directory.mkdir(exist_ok=True)
    config = TrainConfig(**{"epochs": 4, "batch_size": 32, "save_interval": 5, "log_interval": 3, **settings})
    quiet = SystemLogger(ObserveConfig(log_level="error"))
    with CPUDataProcessor(num_workers=1) as processor:
        return run_training(
            directory,
            config,
            module=module,
            data=data,
            processor=processor,
            logger=logger or quiet,
            plan=plan_of_run(directory, lambda: plan or plan_for(config, module, num_threads=num_threads)),
            seed=seed,
            progress=progress or SilentProgress(),
            clock=clock or SystemClock(),
            should_stop=should_stop,
            resume=resume,
            strict=strict,
            title="example",
            cache=cache or NO_TIER,
            disk=disk,
            observers=observers,
            heart=heart,
            room_bytes=room_bytes,
        )


def weights(module: nn.Module) -> dict[str, bytes]:
    """The bytes of every parameter and buffer."""
    return {name: tensor.contiguous().numpy().tobytes() for name, tensor in module.state_dict().items()}


def _numbers(values: Array) -> dict[Column, pa.Array]:
    return {Column(f"x{index}", "numeric"): pa.array(column) for index, column in enumerate(values.T)}


def on_disk(data: PreparedData, folder: Path) -> PreparedData:
    """`data` with its arrays memory-mapped from files in `folder`, as prepared data is."""

    def mapped(name: str) -> PreparedPart:
        part: PreparedPart = getattr(data, name)
        (folder / name).mkdir(parents=True)
        write_arrays(folder / name, {**part.inputs, "\0target": part.target})
        arrays = map_arrays(folder / name)
        return replace(part, target=arrays.pop("\0target"), inputs=arrays)

    return replace(data, **{name: mapped(name) for name in ("train", "validation", "test")})


def _part(pipeline: Pipeline, rows: pa.RecordBatch) -> PreparedPart:
    target = pipeline.target.encode(rows)
    return PreparedPart(pipeline.transform(rows), target, np.arange(rows.num_rows))


class NoFolder:
    """Puts a file in the place of a run's checkpoints, once: saves fail until `end`, which waits for the first.

    The run logs to `<directory>/logs`.
    """

    def __init__(self, directory: Path) -> None:
        self._folder = directory / "checkpoints"
        self._aside = directory / "aside"
        self._log = directory / "logs/training.jsonl"

    def begin(self) -> None:
        """From now on saves fail."""
        if not self._has_failed():
            self._folder.rename(self._aside)
            self._folder.touch()

    def end(self) -> None:
        """Saves succeed again."""
        deadline_s = time.monotonic() + 20.0
        while not self._has_failed() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        if self._aside.exists():
            self._folder.unlink()
            self._aside.rename(self._folder)

    def _has_failed(self) -> bool:
        return self._log.exists() and "checkpoint_failed" in self._log.read_text()
