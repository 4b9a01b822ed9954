"""One child process: started so that it dies with us, watched without blocking, ended with everything it started.

The supervisor uses this for each worker, and `train` for its one child. A child leads a process group of its own: a
Ctrl-C in the terminal reaches us alone, and what the child left running is ended with it, so that nothing keeps its
port or its files.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_LAUNCHER = "import sys; sys.path.append({directory!r}); import launch; launch.launch({parent}, {cpus}, {argv})"


def tied_argv(argv: Sequence[str], cpus: frozenset[int] | None = None) -> list[str]:
    """The command line that runs `argv` so that it is killed when the thread that starts it ends, however it ends."""
    code = _LAUNCHER.format(
        directory=str(Path(__file__).parent), parent=os.getpid(), cpus=sorted(cpus or ()), argv=list(argv)
    )
    # -I and -S: neither PYTHON* variables nor site packages reach the launcher, only the program it becomes. The
    # launcher takes about 15 ms; what it does is unsafe between fork and exec in a process with threads.
    return [sys.executable, "-I", "-S", "-c", code]


class Child:
    """A running process. The thread that makes it must outlive it: Linux ends the child when that thread ends."""

    def __init__(self, argv: Sequence[str], cpus: frozenset[int] | None = None) -> None:
        self._process = subprocess.Popen(tied_argv(argv, cpus), stdin=subprocess.DEVNULL, process_group=0)
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The return code once the process has ended (negative: the signal), None while it runs."""
        if self._process.returncode is None:
            # Look before reaping: while its leader is a zombie, the group's number cannot become anybody else's.
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            self._signal_group(signal.SIGKILL)
        return self._process.wait()

    def terminate(self) -> None:
        """Ask the process to stop (SIGTERM); what it started is its own to stop."""
        if self._process.returncode is None:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the process and all it started (SIGKILL to its group), and wait until it is gone."""
        if self._process.returncode is None:
            self._signal_group(signal.SIGKILL)
            self._process.wait()

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)
