"""Training that survives what ends its process: the trainer runs in a child, and is started again where it left off.

What no exception reports (the kernel's kill for memory, a crash in native code, a hang) is seen from outside. The
child's own errors (a wrong configuration, a loss that is not finite, a mistake in a network) would come again, so they
end the run as they would without us. What a restart needs to do otherwise than the last start is written into the run:
smaller pieces of a batch (`micro_batch.py`), rows left out (`suspects.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import BundleError, CrashLoopError
from corelane.machine.backoff import ExponentialBackoff
from corelane.machine.health import HealthChecker, exit_status
from corelane.observe.log import SystemLogger
from corelane.store.bundle import verify_bundle
from corelane.train.checkpoint import KIND
from corelane.train.config import TrainConfig
from corelane.train.heartbeat import Heartbeat, watched_file
from corelane.train.micro_batch import halve
from corelane.train.state import saved_steps
from corelane.train.suspects import Suspect, describe, read_suspects, write_suspects
from corelane.train.watched import Ending, WatchedProcess

RESUME: Final = "--resume"
RECORD: Final = "recovery.jsonl"
MAX_SUSPECTS: Final = 8  # steps taken out by quarantine; more poisoned batches than that are no accident
_GROWS_WITH_ROWS: Final = frozenset(
    {"plan", "train", "evaluate", "save", "finish"}
)  # phases in which smaller pieces help


@dataclass(frozen=True)
class Restart:
    """One line of `recovery.jsonl`: why the trainer ended, in which phase, after how many steps, and what was done."""

    reason: str
    phase: str
    step: int
    durable_step: int
    action: str


def read_restarts(directory: Path) -> list[Restart]:
    """What the run in `directory` recovered from, oldest first, as far as it can be read."""
    try:
        lines = (directory / RECORD).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [restart for line in lines for restart in _restarts_in(line)]


def _restarts_in(line: bytes) -> list[Restart]:
    """The restart that `line` tells; none where a full disk or a power cut tore it (the log has it too)."""
    try:
        return [Restart(**json.loads(line))]
    except (ValueError, TypeError):
        return []


class FaultTolerantTrainer:
    """Owns the child process of one run, started again after a crash, and nothing else.

    `argv` is the child's command; `--resume` is added to it from the second start on. `directory` is the run's, where
    the child's checkpoints show whether a crash came after new progress: then the count of retries begins anew, so
    that `config.max_retries` limits crashes at one place and not the crashes of a long run. `should_stop` is asked
    while waiting; a yes is passed on to the child as SIGTERM. A yes of `should_leave` ends it at once. `before_start`
    is called before each start: what the last child left is not the next one's.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        argv: Sequence[str],
        directory: Path,
        logger: SystemLogger,
        clock: Clock | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        should_leave: Callable[[], bool] = lambda: False,
        health_checker: HealthChecker | None = None,
        retry_policy: ExponentialBackoff | None = None,
        before_start: Callable[[], None] = lambda: None,
    ) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.retry_policy = retry_policy or ExponentialBackoff(max_retries=config.max_retries, clock=self.clock)
        self.health_checker = health_checker or HealthChecker()
        self._argv = list(argv)
        self._directory = directory
        self._logger = logger
        self._should_stop = should_stop
        self._should_leave = should_leave
        self._before_start = before_start
        self._progress = -1
        self._waits: Iterator[float] = iter(())
        self._ends: list[Ending] = []

    def train_with_recovery(self) -> int:
        """Run the child to its end and return its exit code, as a shell would give it (137 for SIGKILL).

        A crash or a hang is followed by another start after a growing wait, until the retries without progress are
        used up. Raises `OutOfMemoryError` when the memory does not even hold a step on one row, `CrashLoopError` when
        all retries ended at the same step.
        """
        if self.config.on_crash_loop == "stop":
            write_suspects(self._directory, ())  # another try was asked for
        self._renew(self._durable_step())
        with ExitStack() as stack:
            heartbeat = stack.enter_context(watched_file(self._directory))
            if heartbeat is None:
                self._logger.training.warning("run_not_watched", reason="no room for a file of 56 bytes in the run")
            while True:
                ending = self._run_child(heartbeat)
                if self._is_over(ending) or not self._is_to_be_retried(ending):
                    return exit_status(ending.returncode)
                if RESUME not in self._argv:
                    self._argv.append(RESUME)

    def _run_child(self, heartbeat: Heartbeat | None) -> Ending:
        self._before_start()
        process = WatchedProcess(
            self._argv,
            heartbeat=heartbeat,
            logs=self._directory / "logs",
            hang_timeout_s=self.config.hang_timeout_s,
            clock=self.clock,
        )
        return process.wait(self._should_stop, self._should_leave)

    def _is_over(self, ending: Ending) -> bool:
        return self._should_stop() or not self.health_checker.is_recoverable_exit(ending.returncode)

    def _is_to_be_retried(self, ending: Ending) -> bool:
        """Decide what the next start does otherwise, wait, and tell; False when the retries are used up."""
        reached = self._durable_step()
        if reached > self._progress:
            self._renew(reached)
        self._ends.append(ending)
        if ending.is_out_of_memory and ending.beat.phase in _GROWS_WITH_ROWS:
            rows = halve(self._directory, self.config, ending.beat)
            self._renew(reached)  # bounded by the rows, not by the count of retries
            action = f"pieces of {rows} rows, the batch stays; from here on not bit-equal to a run with more memory"
            return self._tell_and_wait(ending, action, 0.0)
        wait_s = next(self._waits, None)
        if wait_s is not None:
            return self._tell_and_wait(ending, "start again from the newest checkpoint", wait_s)
        return self._judge_loop(ending)

    def _judge_loop(self, ending: Ending) -> bool:
        """The retries are used up. Where all of them ended in one step, its rows are under suspicion."""
        places = {(end.beat.phase, end.beat.step) for end in self._ends}
        suspects = read_suspects(self._directory)
        if len(self._ends) < 2 or len(places) > 1 or ending.beat.phase != "train" or len(suspects) == MAX_SUSPECTS:
            self._logger.training.error("trainer_given_up", **asdict(self._restart(ending, "give up")))
            return False
        at = ending.beat
        suspect = Suspect(at.epoch, at.batch, at.step + 1, ending.reason, since=self._durable_step())
        if suspects and (suspects[-1].epoch, suspects[-1].batch) == (suspect.epoch, suspect.batch):
            raise CrashLoopError(describe(suspects[-1]))  # it was to name its rows, or to go on without them
        write_suspects(self._directory, [*suspects, suspect])
        self._renew(self._progress)
        return self._tell_and_wait(ending, f"name the rows of step {suspect.step}", 0.0)

    def _tell_and_wait(self, ending: Ending, action: str, wait_s: float) -> bool:
        restart = asdict(self._restart(ending, action))
        self._logger.training.warning("trainer_restarts", **restart, delay_s=wait_s)
        with suppress(OSError), (self._directory / RECORD).open("a") as file:  # a full disk: the log has it too
            file.write(json.dumps(restart) + "\n")
        self.clock.sleep(wait_s)
        return not self._should_stop()

    def _restart(self, ending: Ending, action: str) -> Restart:
        return Restart(ending.reason, ending.beat.phase, ending.beat.step, self._durable_step(), action)

    def _renew(self, progress: int) -> None:
        self._progress = progress
        self._waits = self.retry_policy.delays()
        self._ends = []

    def _durable_step(self) -> int:
        """The newest step with a whole checkpoint, which the next start goes on from; -1 without one."""
        folder = self._directory / "checkpoints"
        return next((step for step in reversed(saved_steps(folder)) if _is_whole(folder / str(step))), -1)


def _is_whole(checkpoint: Path) -> bool:
    try:
        verify_bundle(checkpoint, KIND)
    except (BundleError, OSError):
        return False
    return True
