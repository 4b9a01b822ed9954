"""A process under strace: its system calls listed, and one or more of them failed, or the process killed right before.

The calls counted are those after the process has written `begins`; what it does before (imports) is left alone. A call
is told by its name and by how many of that name came before it, so a process must do the same every time. strace's
own `--seccomp-bpf` would be faster and is not used: with it, kills do not happen (strace 6.1).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

CHANGES = (
    *("openat", "write", "writev", "pwrite64", "fsync", "fdatasync", "rename", "renameat2", "mkdir", "link"),
    *("unlink", "unlinkat", "rmdir", "ftruncate", "fallocate", "flock", "utimensat"),
)
"""The calls through which a process changes files, or starts to."""

LOOKS = ("read", "getdents64", "newfstatat", "close")
"""The other calls on files that may fail."""


class Call(NamedTuple):
    """One call of a process: its name, its number among those of that name, and its line in the log."""

    name: str
    number: int
    line: str

    @property
    def kill(self) -> str:
        """What to inject so that the process is killed right before this call."""
        return f"{self.name}:signal=SIGKILL:when={self.number}"

    def fail(self, error: str, *, for_good: bool = False) -> str:
        """What to inject so that this call fails with `error`, and with `for_good` all later ones of its name."""
        return f"{self.name}:error={error}:when={self.number}{'+' if for_good else ''}"


class Traced(NamedTuple):
    """How a traced process ended, what it printed, and its calls since it began."""

    returncode: int
    output: str
    errors: str
    calls: list[Call]


def traced(log: Path, argv: Sequence[str], *faults: str, calls: Sequence[str] = CHANGES) -> Traced:
    """Run `python argv` under strace, its log in the file `log`. `faults` are what `Call` says to inject.

    strace dies of the signal that its child died of, so the return code is the child's.
    """
    injected = [word for fault in faults for word in ("-e", f"inject={fault}")]
    command = ["strace", "-f", "-qq", "-y", "-s", "256", "-o", str(log), "-e", f"trace={','.join(calls)}", *injected]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(
        [*command, sys.executable, *argv], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    return Traced(ended.returncode, ended.stdout, ended.stderr, _since_begin(log))


def _since_begin(log: Path) -> list[Call]:
    counts: Counter[str] = Counter()
    calls: list[Call] = []
    has_begun = False
    for line in log.read_text(errors="replace").splitlines():
        match = re.match(r"\d+\s+(\w+)\(", line)
        if match is None:
            continue
        counts[match[1]] += 1
        if has_begun:
            calls.append(Call(match[1], counts[match[1]], line))
        has_begun = has_begun or '"begins' in line
    return calls
