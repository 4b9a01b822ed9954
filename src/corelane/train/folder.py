"""The folder of a run's checkpoints, `<step>/` each: what is whole in it, what is taken from it, and what goes.

`state.py` reads with it, `writer.py` writes with it, `corelane checkpoints` looks through it.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from corelane.core.errors import BundleError, RunLockedError
from corelane.core.types import JsonObject
from corelane.observe.log import SystemLogger
from corelane.store.bundle import remove_temporaries, verify_bundle, write_bundle
from corelane.store.durable import discard, sync_names
from corelane.store.lease import Fence
from corelane.train.checkpoint import KIND, STATE, Checkpoint, Snapshot, read_checkpoint
from corelane.train.mirror import Mirror, NoMirror
from corelane.train.retention import Retention, loss_in, read_loss, saved_steps


class CheckpointFolder:
    """Owns the checkpoints in `path` and nothing else. `fence` is asked before anything in it is changed.

    `notes` says what a reader had to pass over, one JSON object for each. What is `pinned` is not removed: somebody
    reads it.
    """

    def __init__(
        self, path: Path, retention: Retention, fence: Fence, logger: SystemLogger, mirror: Mirror | None = None
    ) -> None:
        self.path = path
        self.notes: list[JsonObject] = []
        self.pinned: set[int] = set()
        self._retention = retention
        self._fence = fence
        self._logger = logger
        self._mirror = mirror or NoMirror()
        self._is_to_prune = False
        self._whole: set[int] = set()
        self._losses: dict[int, float | None] = {}

    def newest(self, *, strict: bool = False) -> Checkpoint | None:
        """The newest whole checkpoint, or None. A broken one is set aside as `<step>.broken`, with a warning.

        What is found survives a power cut from then on, also where its writer was killed before it had seen to that.
        Raises `BundleError` instead where `strict`, `StateError` for one of another release.
        """
        remove_temporaries(self.path)
        for step in reversed(saved_steps(self.path)):
            try:
                checkpoint = read_checkpoint(self.path / str(step))
            except BundleError as error:
                if strict:
                    raise
                self._set_aside(step, error.message)
            else:
                sync_names(self.path)
                self._whole.add(step)
                return checkpoint
        return self._newest_copy()

    def publish(self, snapshot: Snapshot, step: int) -> None:
        """Write `snapshot` durably as the checkpoint of `step`. Raises what `Snapshot.write` raises."""
        remove_temporaries(self.path)
        snapshot.write(self.path / str(step), self._fence.check)
        self._whole.add(step)
        self._losses[step] = loss_in(snapshot.metrics)
        self.pinned.add(step)
        self._mirror.keep(step, self.path / str(step), self._release)

    def prune(self) -> list[int]:
        """Remove what need not stay, and give its steps. What cannot be removed costs a warning and its space."""
        gone: list[int] = []
        self._is_to_prune = False
        try:
            for step in self._doomed():
                self._fence.check()
                discard(self.path / str(step))
                gone.append(step)
        except OSError as error:
            self._logger.training.warning("checkpoint_not_removed", directory=str(self.path), reason=str(error))
        return gone

    def close(self, timeout_s: float) -> None:
        """Wait, at most so long, for what is still to be mirrored, and remove what only stayed for that."""
        self._mirror.close(timeout_s)
        if self._is_to_prune:
            with suppress(RunLockedError):  # the folder is another trainer's now, and so is the clearing up
                self.prune()

    def is_whole(self, step: int) -> bool:
        """Whether the checkpoint of `step` was written or verified by us; else it is verified now."""
        if step not in self._whole:
            try:
                verify_bundle(self.path / str(step), KIND)
            except (BundleError, OSError):
                return False
            self._whole.add(step)
        return True

    def _release(self, step: int) -> None:
        self.pinned.discard(step)
        self._is_to_prune = True

    def _newest_copy(self) -> Checkpoint | None:
        """The newest whole checkpoint of the mirror, put back into the folder; None where there is none."""
        for step in reversed(self._mirror.steps()):
            target = self.path / str(step)
            try:
                with write_bundle(target, KIND, guard=self._fence.check) as directory:
                    if not self._mirror.fetch(step, directory):
                        raise BundleError(f"the copy of step {step} must be whole, got none")  # noqa: TRY301
                checkpoint = read_checkpoint(target)
            except BundleError as error:
                self._logger.training.warning("mirror_not_read", step=step, reason=error.message)
                continue
            self.notes.append({"event": "taken_from_mirror", "step": step})
            self._logger.training.warning("taken_from_mirror", step=step, reason="no whole checkpoint is left here")
            return checkpoint
        return None

    def _doomed(self) -> list[int]:
        losses = {step: self._loss_of(step) for step in saved_steps(self.path)}
        return [step for step in self._retention.doomed(losses, self.is_whole) if step not in self.pinned]

    def _loss_of(self, step: int) -> float | None:
        if self._retention.best and step not in self._losses:
            self._losses[step] = read_loss(self.path / str(step) / STATE)
        return self._losses.get(step)

    def _set_aside(self, step: int, reason: str) -> None:
        self._fence.check()
        aside = self.path / f"{step}.broken"
        shutil.rmtree(aside, ignore_errors=True)
        (self.path / str(step)).rename(aside)
        self.notes.append({"event": "checkpoint_broken", "step": step, "reason": reason})
        self._logger.training.warning(
            "checkpoint_broken", step=step, reason=reason, moved_to=str(aside), action="using an older one"
        )
