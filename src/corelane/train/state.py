"""The state of a training run: what is counted, when it is saved, which checkpoint a run goes on from.

A checkpoint holds all that decides the rest of the run, so a run killed at any moment and resumed ends with the same
bytes as one that was not. The weights of the best epoch are part of that state: they are kept in memory and travel in
every checkpoint, so a better epoch costs a copy and not a write.
"""

from __future__ import annotations

import math
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import BundleError, StateError
from corelane.core.types import JsonObject
from corelane.observe.log import SystemLogger
from corelane.store.bundle import remove_temporaries
from corelane.store.tiers.tier import CacheTier, NoTier
from corelane.train import randomness
from corelane.train.checkpoint import (
    Checkpoint,
    Weights,
    load_optimizer,
    read_checkpoint,
    write_checkpoint,
)
from corelane.train.counters import Counters
from corelane.train.history import History


class HasState(Protocol):
    """A schedule: state as a dict, taken and given back."""

    def state_dict(self) -> dict[str, Any]:
        """The state: JSON values and tensors."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Take the state over."""
        ...


class TrainingStateManager:
    """Owns the folder of checkpoints, `<checkpoint_dir>/<step>/`, and the run's counters, and nothing else.

    `cache` may keep the last weights in memory, so that they need not be read again at the end.
    `identity` names what a checkpoint must have in common with this run (seed, plan, data, configuration: digests);
    a resume with another is refused. `parts` are what else has a state that a checkpoint must hold, by name; whoever
    owns them puts them in before the first save or load. `state` is the run's state as a dict, as of the last save or
    load.
    """

    def __init__(
        self,
        checkpoint_dir: str | Path,
        save_interval: int = 1000,
        *,
        keep: int = 3,
        identity: Mapping[str, str] | None = None,
        logger: SystemLogger | None = None,
        clock: Clock | None = None,
        cache: CacheTier | None = None,
    ) -> None:
        self.checkpoint_dir = Path(checkpoint_dir)
        self.save_interval = save_interval
        self.counters = Counters()
        self.history = History(self.checkpoint_dir.parent / "metrics.jsonl")
        self.best: Weights | None = None
        self.metrics: Mapping[str, Any] = {}
        self.parts: dict[str, HasState] = {}
        self.durable_step: int | None = None
        self.state: dict[str, Any] = {
            "epoch": 0,
            "step": 0,
            "best_metric": math.inf,
            "learning_rate": 0.0,
            "model_state": None,
            "optimizer_state": None,
            "scheduler_state": None,
        }
        self._keep = keep
        self._identity = dict(identity or {})
        self._logger = logger or SystemLogger()
        self._clock = clock or SystemClock()
        self._cache = cache or NoTier()

    def is_due(self) -> bool:
        """Whether the step just taken is one after which to save."""
        return self.counters.step % self.save_interval == 0

    def get_checkpoint_path(self) -> Path:
        """Where a checkpoint of the present step lies."""
        return self.checkpoint_dir / str(self.counters.step)

    def keep_best(self, model: torch.nn.Module) -> None:
        """Take the present weights of `model` as the best of the run."""
        self.best = Weights.of(model)

    def save_checkpoint(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, scheduler: HasState, metrics: Mapping[str, Any]
    ) -> Path:
        """Save everything at the present step; when this returns, it survives a power cut. `metrics` is JSON.

        Raises `DiskFullError` with the bytes needed and free; checkpoints that exist stay as they are.
        """
        self._update_state(model, optimizer, scheduler)
        target = self.get_checkpoint_path()
        remove_temporaries(self.checkpoint_dir)
        saved = Checkpoint(
            model=Weights.of(model),
            optimizer=optimizer.state_dict(),
            best=self.best,
            history=self.history.content,
            parts={name: part.state_dict() for name, part in self.parts.items()},
            state={
                "identity": self._identity,
                "environment": _environment(),
                "counters": self.counters.to_json(),
                "schedule": scheduler.state_dict(),
                "random": randomness.capture(),
                "metrics": dict(metrics),
                "saved_at": self._clock.now(),
            },
        )
        write_checkpoint(target, saved)
        self.metrics = metrics
        self._keep_last(saved.model)
        self.durable_step = self.counters.step
        self._prune()
        return target

    def load_latest(self) -> Checkpoint | None:
        """The newest whole checkpoint, or None. A broken one is set aside as `<step>.broken`, with a warning."""
        remove_temporaries(self.checkpoint_dir)
        for step in reversed(saved_steps(self.checkpoint_dir)):
            path = self.checkpoint_dir / str(step)
            try:
                return read_checkpoint(path)
            except BundleError as error:
                aside = _set_aside(path)
                self._logger.training.warning(
                    "checkpoint_broken",
                    step=step,
                    reason=error.message,
                    moved_to=str(aside),
                    action="using an older one",
                )
        return None

    def load_best(self) -> Weights:
        """The weights of the best epoch; without a validation part those of the newest checkpoint.

        Raises `StateError` when there is no whole checkpoint.
        """
        if self.best is not None:
            return self.best
        last = self._cache.get(self._last_key(self.durable_step))
        if last is not None:
            return Weights.from_arrays(last)
        checkpoint = self.load_latest()
        if checkpoint is None:
            raise StateError(f"{self.checkpoint_dir} must hold a whole checkpoint, got none; train the run again")
        return checkpoint.best or checkpoint.model

    def resume(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, scheduler: HasState) -> bool:
        """Put everything back to the newest whole checkpoint; False when there is none.

        Raises `StateError` when the checkpoint is of other data, another plan, seed or configuration.
        """
        checkpoint = self.load_latest()
        if checkpoint is None:
            return False
        self._check(checkpoint.state)
        checkpoint.model.load_into(model)
        load_optimizer(optimizer, checkpoint.optimizer)
        scheduler.load_state_dict(checkpoint.state["schedule"])
        for name, part in self.parts.items():
            part.load_state_dict(checkpoint.parts[name])
        randomness.restore(checkpoint.state["random"])
        self.best = checkpoint.best
        self.metrics = checkpoint.state["metrics"]
        self.counters = Counters.from_json(checkpoint.state["counters"])
        self.history.reset(checkpoint.history)
        self.durable_step = self.counters.step
        self._update_state(model, optimizer, scheduler)
        return True

    def _keep_last(self, weights: Weights) -> None:
        """Keep the weights just saved in memory where they will be the result: where no epoch is called the best."""
        self._cache.remove(self._last_key(self.durable_step))
        arrays = weights.to_arrays() if self.best is None else None
        if arrays is not None:
            self._cache.put(self._last_key(self.counters.step), arrays)

    def _last_key(self, step: int | None) -> str:
        return f"checkpoints/{self.checkpoint_dir}/{step}"

    def _update_state(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, scheduler: HasState) -> None:
        self.state.update(
            epoch=self.counters.epoch,
            step=self.counters.step,
            best_metric=self.counters.best_metric,
            learning_rate=float(optimizer.param_groups[0]["lr"]),
            model_state=model.state_dict(),
            optimizer_state=optimizer.state_dict(),
            scheduler_state=scheduler.state_dict(),
        )

    def _check(self, state: JsonObject) -> None:
        saved = state["identity"]
        for name in sorted(saved.keys() | self._identity.keys()):
            if saved.get(name) != self._identity.get(name):
                raise StateError(
                    f"the {name} must be the one the checkpoint was made with ({saved.get(name)}), "
                    f"got {self._identity.get(name)}; restore it, or start a new run"
                )
        here = _environment()
        changed = {
            name: f"{value} -> {here.get(name)}"
            for name, value in state["environment"].items()
            if here.get(name) != value
        }
        if changed:
            self._logger.training.warning(
                "resume_not_exact",
                changed=changed,
                reason="the last bits of the weights may differ from an unbroken run",
            )

    def _prune(self) -> None:
        for step in saved_steps(self.checkpoint_dir)[: -self._keep]:
            trash = (
                self.checkpoint_dir / f".{step}.{0:016x}.tmp"
            )  # the store's name for leftovers: swept if we die here
            (self.checkpoint_dir / str(step)).rename(trash)
            shutil.rmtree(trash, ignore_errors=True)


def saved_steps(checkpoint_dir: Path) -> list[int]:
    """The steps that have a checkpoint, oldest first; whether each is whole is found out by reading it."""
    if not checkpoint_dir.is_dir():
        return []
    return sorted(int(path.name) for path in checkpoint_dir.iterdir() if path.name.isdecimal())


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.broken")
    shutil.rmtree(aside, ignore_errors=True)
    return path.rename(aside)


def _environment() -> JsonObject:
    """What must be equal for equal bits: the same kernels, cut into the same number of pieces."""
    return {
        "torch": torch.__version__,
        "architecture": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }
