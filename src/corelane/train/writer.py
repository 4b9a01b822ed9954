"""What becomes of each save: copied at once, written behind, announced when it is durable, told when it failed.

`TrainingStateManager` hands saves over. The training goes on through single failures; checkpoints that exist stay.
"""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from corelane.core.clock import Clock
from corelane.core.errors import CorelaneError, DiskFullError, RunLockedError, SaveError
from corelane.observe.log import SystemLogger
from corelane.train.checkpoint import Snapshot
from corelane.train.folder import CheckpointFolder
from corelane.train.saver import Saver


@dataclass(frozen=True)
class SavePolicy:
    """When a save is still running as the next is due, the trainer waits for it, or skips the next; a run fails with
    the `max_failures`th failed save in a row.
    """

    when_busy: Literal["wait", "skip"] = "wait"
    max_failures: int = 1


class CheckpointWriter:
    """Owns the copy that is being saved, and the outcome of saves, and nothing else.

    `saved_step` is that of the last copy, `durable_step` that of the last checkpoint that survives a power cut; both
    may be read from any thread.
    """

    def __init__(
        self, folder: CheckpointFolder, saver: Saver, policy: SavePolicy, logger: SystemLogger, clock: Clock
    ) -> None:
        self.saved_step: int | None = None
        self.durable_step: int | None = None
        self.num_skipped = 0
        self.snapshot = Snapshot()
        self._folder = folder
        self._saver = saver
        self._policy = policy
        self._logger = logger
        self._clock = clock
        self._num_failures = 0  # in a row
        self._last_error: BaseException | None = None

    @property
    def has_failed(self) -> bool:
        """Whether the next save will raise: too many failures in a row, or one that no repetition mends."""
        return self._last_error is not None and (
            self._num_failures >= self._policy.max_failures or not _may_pass(self._last_error)
        )

    def save(self, step: int, take: Callable[[Snapshot], None], *, is_required: bool) -> bool:
        """Copy with `take` and have the copy written; False when it was skipped, which one that `is_required` is not.

        Raises what made the last saves fail, once there are too many.
        """
        self._raise_failure()
        began = self._clock.monotonic()
        if self._saver.is_busy and self._policy.when_busy == "skip" and not is_required:
            self._skip(step)
            return False
        self._saver.wait()
        take(self.snapshot)
        self.saved_step = step
        stall_s = self._clock.monotonic() - began
        self._saver.submit(lambda: self._write(step, stall_s))
        if not self._saver.is_busy:
            self._raise_failure()
        return True

    def settle(self, timeout_s: float | None = None) -> None:
        """Wait until the last save is durable, at most `timeout_s`. Raises what made it fail, `SaveError` after that
        time.
        """
        self.wait(timeout_s)
        if self._last_error is not None:
            raise self._raised(self._last_error)

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until no save runs, at most `timeout_s`; a failure stays to be raised. Raises `SaveError` after that
        time.
        """
        if not self._saver.wait(timeout_s):
            raise SaveError(
                f"the checkpoint of step {self.saved_step} must be written within {timeout_s:.0f} s, got no end; see "
                f"to the disk of {self._folder.path}. The last durable one: {self.durable_step}"
            )

    def close(self, timeout_s: float) -> None:
        """Wait at most `timeout_s` for the save that runs, and take no more."""
        if not self._saver.wait(timeout_s):
            self._logger.training.warning("checkpoint_left", step=self.saved_step, durable_step=self.durable_step)
        self._saver.close()

    def _write(self, step: int, stall_s: float) -> None:
        """In the saver's thread. Nothing of a failed attempt is used again: the next one writes new files."""
        began, cpu_began = self._clock.monotonic(), time.thread_time()
        try:
            self._folder.publish(self.snapshot, step)
        except BaseException as error:  # noqa: BLE001  (the trainer's thread raises it)
            self._fail(step, error)
            return
        self._num_failures, self._last_error = 0, None
        self.durable_step = step
        taken_s = self._clock.monotonic() - began
        try:
            self._folder.prune()
        except BaseException as error:  # noqa: BLE001  (the same)
            self._last_error = error
        entry = {
            "saved_step": step,
            "durable_step": step,
            "checkpoint_s": taken_s,
            "checkpoint_stall_s": stall_s,
            "checkpoint_cpu_s": time.thread_time() - cpu_began,
        }
        self._logger.training.info("checkpoint_saved", **entry)
        self._logger.metrics_collector.record("training", entry)

    def _fail(self, step: int, error: BaseException) -> None:
        self._num_failures, self._last_error = self._num_failures + 1, error
        self._logger.metrics_collector.record("training", {"checkpoint_failures": 1})
        self._logger.training.warning(
            "checkpoint_failed",
            path=str(self._folder.path / str(step)),
            reason=str(error),
            bytes_needed=self.snapshot.num_bytes,
            bytes_free=self._free_bytes(),
            failures_in_a_row=self._num_failures,
            allowed=self._policy.max_failures,
            durable_step=self.durable_step,
        )

    def _free_bytes(self) -> int | None:
        try:
            return shutil.disk_usage(self._folder.path).free
        except OSError:
            return None

    def _skip(self, step: int) -> None:
        self.num_skipped += 1
        self._logger.training.warning("checkpoint_skipped", step=step, reason="the one before is still being written")
        self._logger.metrics_collector.record("training", {"skipped_checkpoints": 1})

    def _raise_failure(self) -> None:
        """Raise what has failed too often. Who saves again after that begins to count anew."""
        error = self._last_error
        if error is not None and self.has_failed:
            raised = self._raised(error)
            self._num_failures, self._last_error = 0, None
            raise raised

    def _raised(self, error: BaseException) -> BaseException:
        """What the trainer's thread raises for `error`, in words that say what to do."""
        if not isinstance(error, OSError):
            return error
        message = (
            f"{self._folder.path} must take a checkpoint, got {error.strerror or error} {self._num_failures} times in "
            f"a row; see to the disk, then run again with --resume. The last durable one: {self.durable_step}"
        )
        kind = DiskFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else SaveError
        return kind(message, detail=str(error))


def _may_pass(error: BaseException) -> bool:
    """Whether another attempt may succeed: a disk may; a lock that others took, or a fault of ours, will not."""
    return isinstance(error, OSError | CorelaneError) and not isinstance(error, RunLockedError)
