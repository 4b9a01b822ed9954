"""One life of the trainer's process, seen from outside: started, watched, asked to stop, and how it ended.

`recover.py` decides what follows from an ending; how silence is judged is `watchdog.py`.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from corelane.core.clock import Clock
from corelane.machine.child import Child
from corelane.machine.exit_codes import EXIT_NO_MEMORY
from corelane.machine.health import HealthChecker
from corelane.machine.memory_kills import Cause, MemoryKills, offer_as_victim
from corelane.machine.process import is_stopped, tree_cpu_seconds
from corelane.train.heartbeat import Beat, Heartbeat
from corelane.train.stacks import ask_for_stacks, remove_if_empty, stacks_file
from corelane.train.watchdog import Watchdog

POLL_S: Final = 0.05  # how soon a request to stop is passed on; waking 20 times a second costs no measurable time


@dataclass(frozen=True)
class Ending:
    """How the process ended: its return code as `subprocess` gives it, where it was, and why, in words.

    `cause` is that of a SIGKILL. `was_silent` says that it was ended here because it gave no sign of life.
    """

    returncode: int
    beat: Beat
    cause: Cause
    was_silent: bool
    reason: str

    @property
    def is_out_of_memory(self) -> bool:
        """Whether the process ended for want of memory, for all that can be known."""
        was_killed = self.returncode == -signal.SIGKILL and not self.was_silent
        return self.returncode == EXIT_NO_MEMORY or (was_killed and self.cause != "other")


class WatchedProcess:
    """Owns one process from its start to its end, and nothing else. `heartbeat` is None where the disk had no room."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        heartbeat: Heartbeat | None,
        logs: Path,
        hang_timeout_s: float | None,
        clock: Clock,
    ) -> None:
        if heartbeat is not None:
            heartbeat.clear()
        self._heartbeat = heartbeat
        self._logs = logs
        self._clock = clock
        self._child = Child(argv)
        self._kills = MemoryKills(self._child.pid, clock=clock)
        offer_as_victim(self._child.pid)
        timeout_s = math.inf if hang_timeout_s is None or heartbeat is None else hang_timeout_s
        self._watchdog = Watchdog(timeout_s, clock, partial(tree_cpu_seconds, self._child.pid))

    def wait(self, should_stop: Callable[[], bool], should_leave: Callable[[], bool]) -> Ending:
        """Until the process ends; a request to stop is passed on once, one to leave ends it at once."""
        is_asked = False
        try:
            while (returncode := self._child.poll()) is None:
                if should_leave():
                    return self._end("ended at the second request to stop")
                if not is_asked and should_stop():
                    self._child.terminate()
                    is_asked = True
                self._kills.note()
                if self._watchdog.is_silent(self._beat()):
                    return self._end_silent()
                self._clock.sleep(POLL_S)
        except BaseException:
            self._child.kill()
            raise
        finally:
            remove_if_empty(stacks_file(self._logs, self._child.pid))
        return self._ended(returncode)

    def _beat(self) -> Beat:
        return Beat() if self._heartbeat is None else self._heartbeat.read()

    def _ended(self, returncode: int) -> Ending:
        cause: Cause = self._kills.cause() if returncode == -signal.SIGKILL else "other"
        reason = HealthChecker().explain_exit(returncode)
        if returncode == -signal.SIGKILL:
            reason = _KILLED[cause]
        return Ending(returncode, self._beat(), cause, False, reason)

    def _end(self, reason: str) -> Ending:
        self._child.kill()
        return Ending(-signal.SIGKILL, self._beat(), "other", True, reason)

    def _end_silent(self) -> Ending:
        beat, silent_s, pid = self._beat(), self._watchdog.silent_s, self._child.pid
        state = "stopped from outside (SIGSTOP)" if is_stopped(pid) else "hung"
        stacks = ask_for_stacks(pid, self._logs, self._clock)
        where = f"where its threads stood is in {stacks}" if stacks else "it could not say where its threads stood"
        return self._end(f"{state}: no sign of life for {silent_s:.1f} s in the phase {beat.phase!r}; {where}")


_KILLED: dict[Cause, str] = {
    "memory": "killed by the kernel, which had no memory left for it (SIGKILL, and the count of such kills rose)",
    "other": "killed from outside (SIGKILL), not for want of memory: the kernel's count of such kills did not rise",
    "unknown": "killed from outside (SIGKILL); nothing here tells whether for want of memory, the usual cause",
}
