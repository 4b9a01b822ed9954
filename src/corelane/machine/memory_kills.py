"""Whether a process that was killed was killed for memory: the kernel counts such kills, and we read the count twice.

A SIGKILL looks the same whoever sent it. The supervisor of the trainer notes the counts while its child lives and asks
here once it is dead. The machine's own count (`/proc/vmstat`) is the second witness, for a kill outside any limit.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

from corelane.machine.cgroup import oom_kill_counter, read_oom_kills

Cause: TypeAlias = Literal["memory", "other", "unknown"]
"""Why a SIGKILL came: the kernel needed memory, somebody else sent it, or nothing here tells."""

VICTIM_SCORE: Final = 300  # of 1000: as if it used 30 % of the memory more than it does, so it goes before its parent


class MemoryKills:
    """Owns the counts of kills for memory around process `pid`, as they were when first seen, and nothing else."""

    def __init__(self, pid: int, root: Path = Path("/")) -> None:
        self._pid = pid
        self._root = root
        self._groups = b""
        self._before: dict[Path, int] = {}
        self._see(root / "proc/vmstat")
        self.note()

    def note(self) -> None:
        """Look while the process lives whether it is in another group now: once it is dead, its groups are not told."""
        with suppress(OSError):
            groups = (self._root / "proc" / str(self._pid) / "cgroup").read_bytes()
            if groups == self._groups:
                return
            self._groups = groups
            counter = oom_kill_counter(self._pid, self._root)
            if counter is not None:
                self._see(counter)

    def cause(self) -> Cause:
        """Why the process was killed, once it is dead."""
        after = {counter: read_oom_kills(counter) for counter in self._before}
        if any(kills is not None and kills > self._before[counter] for counter, kills in after.items()):
            return "memory"
        return "unknown" if None in after.values() or not after else "other"

    def _see(self, counter: Path) -> None:
        kills = read_oom_kills(counter)
        if kills is not None:
            self._before.setdefault(counter, kills)


def offer_as_victim(pid: int) -> None:
    """Make process `pid` the one that the kernel kills when memory ends, before us, who can start it again."""
    with suppress(OSError, ValueError):  # it has just ended, or this system hides the file
        own = int(Path("/proc", str(os.getpid()), "oom_score_adj").read_text())
        Path("/proc", str(pid), "oom_score_adj").write_text(str(min(1000, own + VICTIM_SCORE)))
