"""Whether a process that was killed was killed for memory: the kernel counts such kills, and we read the count twice.

A SIGKILL looks the same whoever sent it. The supervisor of the trainer notes the counts while its child lives and asks
here once it is dead. The count of the child's control group tells of kills in the group, for its own limit and for the
machine's. Where there is none (any more), the machine's (`/proc/vmstat`) has to do, which tells of everybody's.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

from corelane.core.clock import Clock, SystemClock
from corelane.machine.cgroup import oom_kill_counter, read_oom_kills

Cause: TypeAlias = Literal["memory", "other", "unknown"]
"""Why a SIGKILL came: the kernel needed memory, somebody else sent it, or nothing here tells."""

# A count that rose in the last 5 to 10 s may have been for this process: the kernel counts before it dies, and dying
# can take seconds where memory is short. What rose earlier was for another one in the group.
RECENT_S: Final = 5.0

VICTIM_SCORE: Final = 300  # of 1000: as if it used 30 % of the memory more than it does, so it goes before its parent


class MemoryKills:
    """Owns the counts of kills for memory around process `pid`, as they were seconds ago, and nothing else."""

    def __init__(self, pid: int, root: Path = Path("/"), clock: Clock | None = None) -> None:
        self._pid = pid
        self._root = root
        self._clock = clock or SystemClock()
        self._groups = b""
        self._machine = root / "proc/vmstat"
        self._before: dict[
            Path, int
        ] = {}  # `RECENT_S` old or older, of every group: a dying process is told in the root
        self._newer: dict[Path, int] = {}
        self._noted_s = self._clock.monotonic()
        self._see(self._machine)
        self.note()

    def note(self) -> None:
        """Look while the process lives at the counts, and whether it is in another group: a dead one's is not told."""
        self._look_for_group()
        now_s = self._clock.monotonic()
        if now_s - self._noted_s >= RECENT_S:
            self._noted_s, self._before = now_s, self._newer
            self._newer = {counter: read_oom_kills(counter) or before for counter, before in self._before.items()}

    def cause(self) -> Cause:
        """Why the process was killed, once it is dead."""
        after = {counter: kills for counter in self._before if (kills := read_oom_kills(counter)) is not None}
        if 1 < len(after) == len(self._before):  # the groups are all still there to ask
            after.pop(self._machine, None)
        if any(kills > self._before[counter] for counter, kills in after.items()):
            return "memory"
        return "other" if after else "unknown"

    def _look_for_group(self) -> None:
        with suppress(OSError):
            groups = (self._root / "proc" / str(self._pid) / "cgroup").read_bytes()
            if groups == self._groups:
                return
            self._groups = groups
            counter = oom_kill_counter(self._pid, self._root)
            if counter is not None:
                self._see(counter)

    def _see(self, counter: Path) -> None:
        kills = read_oom_kills(counter)
        if kills is not None:
            self._before.setdefault(counter, kills)
            self._newer.setdefault(counter, kills)


def offer_as_victim(pid: int) -> None:
    """Make process `pid` the one that the kernel kills when memory ends, before us, who can start it again."""
    with suppress(OSError, ValueError):  # it has just ended, or this system hides the file
        own = int(Path("/proc", str(os.getpid()), "oom_score_adj").read_text())
        Path("/proc", str(pid), "oom_score_adj").write_text(str(min(1000, own + VICTIM_SCORE)))
