"""Whether memory is short: the kernel's pressure stall information, and how full the process's control group is.

`PressureWatch` looks once a second and tells a `MemoryManager`; the kernel's account of stalled time (PSI, in the
kernel's documentation `accounting/psi`) says that memory is short before anything is killed. Where neither file can be
read nothing is known, and nothing is asked.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from corelane.machine.cgroup import MemoryUse, read_memory_use
from corelane.machine.memory import MemoryManager

HIGH_STALL = 0.10  # of the last ten seconds, some task waited for memory: far beyond noise, well before thrashing
HIGH_FILL = 0.90  # of the group's limit is in use, without the page cache that can be dropped
INTERVAL_S = 1.0

_SOME = re.compile(r"^some avg10=([0-9.]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pressure:
    """`stalled`: share of the last ten seconds in which some task waited for memory. `filled`: share of the control
    group's limit in use. 0 where it cannot be known.
    """

    stalled: float
    filled: float

    @property
    def is_high(self) -> bool:
        """Whether memory should be given back."""
        return self.stalled >= HIGH_STALL or self.filled >= HIGH_FILL


def read_pressure(root: Path = Path("/")) -> Pressure:
    """The present pressure, of the process's own control group where it tells, else of the machine."""
    use = read_memory_use(root)
    text = _read(use.pressure) if use is not None and use.pressure is not None else ""
    stalls = _SOME.search(text or _read(root / "proc/pressure/memory"))
    return Pressure(float(stalls[1]) / 100.0 if stalls else 0.0, _fill(use))


class PressureWatch:
    """Owns the thread that looks at the pressure and nothing else. A context manager; `close` is idempotent.

    `read` gives the pressure; every `interval_s` a high one makes `manager` relieve, any other relax. `tell` hears of a
    high one and of the bytes that came free.
    """

    def __init__(
        self,
        manager: MemoryManager,
        *,
        read: Callable[[], Pressure] = read_pressure,
        interval_s: float = INTERVAL_S,
        tell: Callable[[Pressure, int], None] | None = None,
    ) -> None:
        self._manager = manager
        self._read = read
        self._tell = tell
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(interval_s,), name="corelane-pressure", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Look once, and act."""
        pressure = self._read()
        if pressure.is_high:
            freed_bytes = self._manager.relieve()
            if self._tell is not None:
                self._tell(pressure, freed_bytes)
        else:
            self._manager.relax()

    def close(self) -> None:
        """End the thread and wait for it."""
        self._ended.set()
        self._thread.join()

    def _watch(self, interval_s: float) -> None:
        while not self._ended.wait(interval_s):
            self.look()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _fill(use: MemoryUse | None) -> float:
    return use.used_bytes / use.limit_bytes if use is not None and use.limit_bytes else 0.0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:  # not built into this kernel, or hidden by a sandbox
        return ""
