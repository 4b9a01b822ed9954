"""One child process: started so that it dies with us, watched without blocking, ended with everything it started.

Only `supervise.py` uses this. A child leads a process group of its own: a Ctrl-C in the terminal reaches us alone, and
what the child left running is ended with it, so that nothing keeps its port or its files.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

# -I and -S: neither the environment nor site packages reach the launcher; the program it becomes gets its own as usual.
_LAUNCHER = "import sys; sys.path.append({directory!r}); import launch; launch.launch({parent}, {cpus}, {argv})"


class Child:
    """A running process. The thread that makes it must outlive it: Linux ends the child when that thread ends."""

    def __init__(self, argv: Sequence[str], cpus: frozenset[int] | None = None) -> None:
        code = _LAUNCHER.format(
            directory=str(Path(__file__).parent), parent=os.getpid(), cpus=sorted(cpus or ()), argv=list(argv)
        )
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code], stdin=subprocess.DEVNULL, process_group=0
        )
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The return code once the process has ended (negative: the signal), None while it runs."""
        if self._process.returncode is None:
            # Look before reaping: while the leader is a zombie its group's number cannot be given to anybody else.
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            self.kill()
        return self._process.wait()

    def terminate(self) -> None:
        """Ask the process to stop (SIGTERM); it decides what that means for its own children."""
        self._process.terminate()

    def kill(self) -> None:
        """End the process and all it started, at once (SIGKILL to its group)."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
