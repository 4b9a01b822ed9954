"""How much of the CPUs other processes use while something is measured here: what is measured then holds for then only.

Read from `/proc/stat`, per CPU, below a root that tests replace.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_COUNTED = 8  # of proc(5): user to steal; guest times are within user's
_IDLE = (3, 4)  # idle, and waiting for a disk


def own_cpu_seconds() -> float:
    """CPU seconds of this process and of the children it has waited for, such as a compiler."""
    return sum(os.times()[:4])


class OthersWatch:
    """Owns two readings of the time of `cpus` and nothing else; the first is taken now."""

    def __init__(
        self, cpus: Sequence[int], root: Path = Path("/"), own_seconds: Callable[[], float] = own_cpu_seconds
    ) -> None:
        self._names = {f"cpu{cpu}" for cpu in cpus}
        self._path = root / "proc/stat"
        self._own_seconds = own_seconds
        self._before = (*self._read(), own_seconds())

    def share(self) -> float:
        """Share of the CPUs' time since then that others used, 0 to 1; 0 where the system does not tell."""
        busy_s, total_s, own_s = (
            now - before for now, before in zip((*self._read(), self._own_seconds()), self._before, strict=True)
        )
        return min(1.0, max(0.0, busy_s - own_s) / total_s) if total_s > 0 else 0.0

    def _read(self) -> tuple[float, float]:
        """Busy and all seconds of the CPUs since the system started."""
        try:
            lines = [line.split() for line in self._path.read_text().splitlines()]
        except OSError:
            return 0.0, 0.0
        counts = [
            [int(word) for word in words[1 : 1 + _COUNTED]] for words in lines if words[:1] and words[0] in self._names
        ]
        total = sum(map(sum, counts))
        return (total - sum(count[kind] for count in counts for kind in _IDLE)) * _TICK_S, total * _TICK_S
