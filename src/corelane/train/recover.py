"""Training that survives a crash of its process: the trainer runs in a child, and is started again where it left off.

What no exception reports (the kernel's kill for memory, a crash in native code) is seen from outside, as the child's
exit. The child's own errors (a wrong configuration, a loss that is not finite) end the run as they would without us.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from corelane.core.clock import Clock, SystemClock
from corelane.machine.backoff import ExponentialBackoff
from corelane.machine.child import Child
from corelane.machine.health import HealthChecker, exit_status
from corelane.observe.log import SystemLogger
from corelane.train.config import TrainConfig
from corelane.train.state import saved_steps

RESUME = "--resume"
POLL_S = 0.05  # how soon a request to stop is passed on; waking 20 times a second costs no measurable time


class FaultTolerantTrainer:
    """Owns the child process of one run, started again after a crash, and nothing else.

    `argv` is the child's command; `--resume` is added to it from the second start on. `directory` is the run's, where
    the child's checkpoints show whether a crash came after new progress: then the count of retries begins anew, so
    that `config.max_retries` limits crashes at one place and not the crashes of a long run. `should_stop` is asked
    while waiting; a yes is passed on to the child as SIGTERM.
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
        health_checker: HealthChecker | None = None,
        retry_policy: ExponentialBackoff | None = None,
    ) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.retry_policy = retry_policy or ExponentialBackoff(max_retries=config.max_retries, clock=self.clock)
        self.health_checker = health_checker or HealthChecker()
        self._argv = list(argv)
        self._checkpoints = directory / "checkpoints"
        self._logger = logger
        self._should_stop = should_stop

    def train_with_recovery(self) -> int:
        """Run the child to its end and return its exit code, as a shell would give it (137 for SIGKILL).

        A crash is followed by another start after a growing wait, until the retries without progress are used up.
        """
        delays, progress = self.retry_policy.delays(), self._progress()
        while True:
            returncode = self._run_child()
            if self._should_stop() or not self.health_checker.is_recoverable_exit(returncode):
                return exit_status(returncode)
            reached = self._progress()
            if reached > progress:
                delays, progress = self.retry_policy.delays(), reached
            delay_s = next(delays, None)
            reason = self.health_checker.explain_exit(returncode)
            if delay_s is None:
                self._logger.training.error("trainer_given_up", reason=reason, durable_step=reached)
                return exit_status(returncode)
            self._logger.training.warning("trainer_restarts", reason=reason, durable_step=reached, delay_s=delay_s)
            self.clock.sleep(delay_s)
            if RESUME not in self._argv:
                self._argv.append(RESUME)

    def _run_child(self) -> int:
        child = Child(self._argv)
        is_asked = False
        try:
            while (returncode := child.poll()) is None:
                if not is_asked and self._should_stop():
                    child.terminate()
                    is_asked = True
                self.clock.sleep(POLL_S)
        except BaseException:
            child.kill()
            raise
        return returncode

    def _progress(self) -> int:
        """The newest step with a checkpoint, -1 without one."""
        return max(saved_steps(self._checkpoints), default=-1)
