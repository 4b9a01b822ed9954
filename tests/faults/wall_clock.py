"""A wall clock that a test sets, for child processes; monotonic clocks are left alone.

libfaketime makes a sleep of Python's fail (0.9.10, `clock_nanosleep` until a moment), so that these few lines of C are
preloaded.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path


class WallClock:
    """Owns the offset of the wall clock of all processes that are started with `environment`, in `folder`."""

    def __init__(self, folder: Path) -> None:
        library, self._offset = folder / "wall_clock.so", folder / "wall_clock.offset"
        source = Path(__file__).with_suffix(".c")
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
        self.set(0)
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK_OFFSET": str(self._offset)}

    def set(self, offset_s: int) -> None:
        """Be so many seconds off from now on."""
        with self._offset.open("r+b" if self._offset.exists() else "wb") as file:
            file.write(struct.pack("l", offset_s))
