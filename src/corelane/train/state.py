"""The state of a training run: what is counted, when it is saved, which checkpoint a run goes on from.

A checkpoint holds all that decides the rest of the run, so a run killed at any moment and resumed ends with the same
bytes as one that was not. The weights of the best epoch are part of that state: they are kept in memory and travel in
every checkpoint, so a better epoch costs a copy and not a write.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import torch

from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import StateError
from corelane.core.types import JsonObject
from corelane.observe.log import SystemLogger
from corelane.store.lease import NoLease, RunLease
from corelane.train import randomness
from corelane.train.checkpoint import Checkpoint, Snapshot, Weights, load_optimizer
from corelane.train.counters import Counters
from corelane.train.folder import CheckpointFolder
from corelane.train.history import History
from corelane.train.mirror import Mirror
from corelane.train.retention import Retention, saved_steps
from corelane.train.saver import InlineSaver, Saver
from corelane.train.writer import CheckpointWriter, SavePolicy

__all__ = ["HasState", "TrainingStateManager", "saved_steps"]

CLOSE_S = 60.0  # the longest wait for a save that runs when the training ends in an error


class HasState(Protocol):
    """A schedule, or another part of the run: state as a dict, taken and given back."""

    def state_dict(self) -> dict[str, Any]:
        """The state: JSON values and tensors."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Take the state over."""
        ...


class TrainingStateManager:
    """Owns a run's counters, history and best weights, and their way to and from `<checkpoint_dir>/<step>/`, and
    nothing else.

    Made by hand, it saves in the calling thread, and what fails is raised at once; `app` gives it a `saver` with a
    thread of its own and a patient `policy`. `parts` are what else has a state that a checkpoint must hold, by name;
    whoever owns them puts them in before the first save or load. `identity` names what a checkpoint must have in common
    with this run (seed, plan, data, configuration: digests); a resume with another is refused. With `strict` a broken
    checkpoint is an error and not passed over. `lease` keeps other trainers out, from `__enter__` to `__exit__`.
    `mirror` takes copies of durable checkpoints, and gives them back where none is left.
    `state` is the run's state as a dict, as of the last save or load; `notes` is what made the run another than an
    unbroken one, in JSON.
    """

    def __init__(
        self,
        checkpoint_dir: str | Path,
        save_interval: int = 1000,
        *,
        retention: Retention = Retention(),  # noqa: B008  (frozen)
        policy: SavePolicy = SavePolicy(),  # noqa: B008  (frozen)
        identity: Mapping[str, str] | None = None,
        saver: Saver | None = None,
        lease: RunLease | None = None,
        mirror: Mirror | None = None,
        strict: bool = False,
        logger: SystemLogger | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.checkpoint_dir = Path(checkpoint_dir)
        self.save_interval = save_interval
        self.counters = Counters()
        self.best: Weights | None = None
        self.metrics: Mapping[str, Any] = {}
        self.parts: dict[str, HasState] = {}
        self.state: dict[str, Any] = {
            "epoch": 0,
            "step": 0,
            "best_metric": math.inf,
            "learning_rate": 0.0,
            "model_state": None,
            "optimizer_state": None,
            "scheduler_state": None,
        }
        self._identity = dict(identity or {})
        self._strict = strict
        self._logger = logger or SystemLogger()
        self._clock = clock or SystemClock()
        self._lease = lease or NoLease()
        self.history = History(
            self.checkpoint_dir.parent / "metrics.jsonl",
            self._lease,
            lambda event, fields: self._logger.training.warning(event, **fields),
        )
        self._folder = CheckpointFolder(self.checkpoint_dir, retention, self._lease, self._logger, mirror)
        self._writer = CheckpointWriter(self._folder, saver or InlineSaver(), policy, self._logger, self._clock)

    def __enter__(self) -> Self:
        """Keep other trainers out. Raises `RunLockedError` when one is in."""
        self._lease.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close(CLOSE_S)
        self._folder.close(CLOSE_S)
        self._lease.release()

    @property
    def saved_step(self) -> int | None:
        """The step of the last save; whether it is durable yet says `durable_step`."""
        return self._writer.saved_step

    @property
    def durable_step(self) -> int | None:
        """The step of the newest checkpoint that survives a power cut."""
        return self._writer.durable_step

    @property
    def notes(self) -> list[JsonObject]:
        """What was passed over or changed at resumes, one object with an `event` for each."""
        return self._folder.notes

    def is_due(self) -> bool:
        """Whether the step just taken is one after which to save, or the last saves have failed too often to go on."""
        return self.counters.step % self.save_interval == 0 or self._writer.has_failed

    def get_checkpoint_path(self) -> Path:
        """Where a checkpoint of the present step lies."""
        return self.checkpoint_dir / str(self.counters.step)

    def keep_best(self, model: torch.nn.Module) -> None:
        """Take the present weights of `model` as the best of the run."""
        self.best = Weights.of(model)

    def save_checkpoint(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, scheduler: HasState, metrics: Mapping[str, Any]
    ) -> Path:
        """Copy everything at the present step and have it saved; durable when `durable_step` says so, or `settle`
        returns. `metrics` is JSON. Returns where the checkpoint lies then.

        Raises `DiskFullError` with the bytes needed and free, or `SaveError`, after too many failures in a row (the
        checkpoints that exist stay as they are); `NonFiniteLossError` for weights that are not finite;
        `RunLockedError` when another trainer has taken over.
        """
        self._update_state(model, optimizer, scheduler)
        self.metrics = metrics

        def take(snapshot: Snapshot) -> None:
            snapshot.take(
                self.state["model_state"],
                self.state["optimizer_state"],
                weights=[name for name, _ in model.named_parameters()],
                best=self.best,
                parts={name: part.state_dict() for name, part in self.parts.items()},
                history=self.history.content,
                state=self._rest(),
            )

        self._writer.save(self.counters.step, take, is_required=self.counters.is_finished)
        return self.get_checkpoint_path()

    def settle(self, timeout_s: float | None = None) -> None:
        """Wait until the last save is durable, at most `timeout_s`. Raises what made it fail, `SaveError` when it
        takes longer.
        """
        self._writer.settle(timeout_s)

    def check_alone(self) -> None:
        """Raise `RunLockedError` when another trainer has taken over: nothing may be published any more."""
        self._lease.check()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until no save runs, whatever came of it. Raises `SaveError` when it takes longer than `timeout_s`."""
        self._writer.wait(timeout_s)

    def load_latest(self) -> Checkpoint | None:
        """The newest whole checkpoint, or None. A broken one is set aside as `<step>.broken`, with a warning.

        Raises `BundleError` instead when the manager is strict, `StateError` for a checkpoint of another release.
        """
        return self._folder.newest(strict=self._strict)

    def load_best(self) -> Weights:
        """The weights of the best epoch; without a validation part those of the last save, or else of the newest
        checkpoint.

        Raises `StateError` when there is no whole checkpoint.
        """
        in_memory = self.best or self._writer.snapshot.model
        if in_memory is not None:
            return in_memory
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
        try:
            self._check(checkpoint.state)
            self._check_parts(checkpoint)
            self._take_over(checkpoint, model, optimizer, scheduler)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise StateError(
                f"the newest checkpoint in {self.checkpoint_dir} must hold what this release saves, got something else;"
                " remove it, or start a new run",
                detail=f"{type(error).__name__}: {error}",
            ) from error
        self._update_state(model, optimizer, scheduler)
        return True

    def _take_over(
        self, checkpoint: Checkpoint, model: torch.nn.Module, optimizer: torch.optim.Optimizer, scheduler: HasState
    ) -> None:
        checkpoint.model.load_into(model)
        load_optimizer(optimizer, checkpoint.optimizer)
        scheduler.load_state_dict(checkpoint.state["schedule"])
        for name, part in self.parts.items():
            part.load_state_dict(checkpoint.parts[name])
        randomness.restore(checkpoint.state["random"])
        self.best = checkpoint.best
        self.metrics = checkpoint.state["metrics"]
        self.counters = Counters.from_json(checkpoint.state["counters"])
        saved = checkpoint.state["notes"]
        self.notes[:] = [*saved, *(note for note in self.notes if note not in saved)]
        self.history.reset(checkpoint.history)
        self._writer.saved_step = self._writer.durable_step = self.counters.step

    def _rest(self) -> JsonObject:
        """What of the state is no tensor."""
        return {
            "identity": self._identity,
            "environment": _environment(),
            "counters": self.counters.to_json(),
            "schedule": self.state["scheduler_state"],
            "random": randomness.capture(),
            "metrics": dict(self.metrics),
            "notes": list(self.notes),
            "saved_at": self._clock.now(),
        }

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
            self.notes.append({"event": "resume_not_exact", "step": state["counters"]["step"], "changed": changed})
            self._logger.training.warning(
                "resume_not_exact",
                changed=changed,
                reason="the last bits of the weights may differ from an unbroken run",
            )

    def _check_parts(self, checkpoint: Checkpoint) -> None:
        for name in sorted(checkpoint.parts.keys() ^ self.parts.keys()):
            absent = "checkpoint" if name in self.parts else "run"
            raise StateError(
                f"the {absent} must have the part {name!r}, got none; resume with the settings the run began with"
            )


def _environment() -> JsonObject:
    """What must be equal for equal bits: the same kernels, cut into the same number of pieces."""
    return {
        "torch": torch.__version__,
        "architecture": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }
