"""A whole run in one call, for `app`: train or resume, load the best weights, look at the test part once, report."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from corelane.core.clock import Clock
from corelane.core.types import JsonObject
from corelane.data.concerns import concerns_of
from corelane.data.prepared import PreparedData
from corelane.data.processor import CPUDataProcessor
from corelane.observe.log import SystemLogger
from corelane.store.bundle import write_atomic
from corelane.store.lease import Lease
from corelane.store.tiers.disk import DiskTier
from corelane.store.tiers.memory import MemoryTier
from corelane.store.tiers.tier import NoTier
from corelane.train.augment import Augmenting, augmenter_for
from corelane.train.augmented import CachedAugmenter
from corelane.train.batches import TensorBatches, in_layout
from corelane.train.config import TrainConfig
from corelane.train.evaluate import evaluate, rows_at_once
from corelane.train.heartbeat import NO_HEART, Heart
from corelane.train.metrics import Evaluation
from corelane.train.mirror import Mirror
from corelane.train.plan import Plan, digest_of
from corelane.train.preflight import check_directory, checkpoint_bytes
from corelane.train.progress import TrainingProgress
from corelane.train.record import Observer
from corelane.train.report import write_report
from corelane.train.result import TrainResult
from corelane.train.retention import Retention
from corelane.train.room import fitted_to_room
from corelane.train.saver import BackgroundSaver
from corelane.train.state import TrainingStateManager
from corelane.train.suspects import healthy_rows
from corelane.train.torch_thread import run_in_torch_thread
from corelane.train.trainer import Trainer
from corelane.train.writer import SavePolicy

__all__ = ["TrainResult", "run_training"]

NO_TIER = NoTier()


def run_training(
    directory: Path,
    config: TrainConfig,
    *,
    module: torch.nn.Module,
    data: PreparedData,
    processor: CPUDataProcessor,
    logger: SystemLogger,
    plan: Plan,
    seed: int,
    progress: TrainingProgress,
    clock: Clock,
    should_stop: Callable[[], bool],
    resume: bool,
    title: str,
    strict: bool = False,
    mirror: Mirror | None = None,
    cache: MemoryTier | NoTier = NO_TIER,
    disk: DiskTier | None = None,
    observers: Sequence[Observer] = (),
    heart: Heart = NO_HEART,
    room_bytes: float = math.inf,
) -> TrainResult:
    """Train `module` on `data` in the run directory `directory`; it ends in eval mode with the best weights.

    Writes checkpoints/, metrics.jsonl, report.html and, last and durably, result.json. With `resume` the run goes on
    from its newest whole checkpoint, or from the start where there is none yet; its end is the same, bit for bit.
    `cache` keeps in memory what is read again, `disk` augmented batches where that is configured; they change no bit.
    `observers` are told of every step, `heart` of where the process is. Rows of steps that the run crashed at again and
    again are left out, where that is configured.
    `room_bytes` is the memory that a batch may take in the network.

    `mirror` takes copies of checkpoints. With `strict` a broken checkpoint ends the run instead of being passed over.

    Raises what `Trainer.train` raises, `RunLockedError` when another process trains in the directory, and
    `CrashLoopError` naming rows that the run crashed at.
    """
    checkpoints = directory / "checkpoints"
    state = TrainingStateManager(
        checkpoints,
        config.save_interval,
        retention=Retention(config.keep_checkpoints, config.keep_best_checkpoints, config.keep_checkpoint_every or 0),
        policy=SavePolicy(config.save_policy, config.max_save_failures),
        identity={
            "seed": str(seed),
            "plan": digest_of(plan),
            "prepared data": data.digest,
            "configuration": config.digest,
        },
        saver=BackgroundSaver(),
        lease=Lease(directory / "lock", clock=clock, tell=partial(_tell, logger)),
        mirror=mirror,
        strict=strict,
        logger=logger,
        clock=clock,
    )

    rows = healthy_rows(
        directory,
        config,
        seed=seed,
        part=data.train,
        batch_size=min(config.batch_size, data.train.num_rows),
        logger=logger,
    )

    def work(should_stop: Callable[[], bool]) -> TrainResult:
        fitted = fitted_to_room(config, directory, module, data, room_bytes)
        trainer = Trainer(
            fitted,
            module=module,
            data=data,
            processor=processor,
            state=state,
            logger=logger,
            plan=plan,
            seed=seed,
            progress=progress,
            clock=clock,
            should_stop=should_stop,
            keeper=cache,
            augment=_augmenter(config, data, seed, disk if rows.are_all else None),
            rows=rows,
            heart=heart,
            observers=observers,
            title=title,
        )
        result = trainer.train(resume)
        return replace(result, test=_look_at_test_part(fitted, module, data, processor, plan))

    with state:  # before anything is written
        check_directory(checkpoints, checkpoint_bytes(module))
        result = run_in_torch_thread(work, num_threads=plan.chosen.threads, should_stop=should_stop)
        in_layout(module, torch.contiguous_format).eval()
        if result.not_finite:
            logger.training.warning("result_not_finite", left_out=result.not_finite, action="look for extreme values")
        concerns = [concern.reason for concern in concerns_of(data.profile)]
        state.check_alone()  # the report and the result are published too
        write_report(directory / "report.html", title, result, state.history, data.pipeline, plan, concerns)
        outcome = {"task": data.pipeline.target.task, **result.to_json()}
        state.check_alone()
        write_atomic(directory / "result.json", json.dumps(outcome, indent=2, allow_nan=False).encode())
    logger.training.info("training_finished", **result.metrics, examples_per_s=result.examples_per_s)
    return result


def _tell(logger: SystemLogger, event: str, fields: JsonObject) -> None:
    logger.training.warning(event, **fields)


def _augmenter(config: TrainConfig, data: PreparedData, seed: int, disk: DiskTier | None) -> Augmenting:
    augment = augmenter_for(config.augment, data.pipeline, seed)
    if disk is None or config.augment.is_off or not config.augment.cache:
        return augment
    batch_size = min(config.batch_size, data.train.num_rows)
    facts = {
        "data": data.digest,
        "augment": config.augment.model_dump(mode="json"),
        "seed": seed,
        "batch_size": batch_size,
    }
    return CachedAugmenter(augment, disk, facts, data.train.num_rows // batch_size * batch_size)


def _look_at_test_part(
    config: TrainConfig, module: torch.nn.Module, data: PreparedData, processor: CPUDataProcessor, plan: Plan
) -> Evaluation | None:
    if data.test.num_rows == 0:
        return None
    batches = TensorBatches(processor, channels_last=plan.chosen.memory_format == "channels_last")
    order = np.arange(data.test.num_rows)
    return evaluate(module, batches.of(data.test, order, rows_at_once(config)), data.pipeline)
