"""A real control group that limits the memory of child processes; version 1 and version 2 of the kernel's interface."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A group that exists: its directory."""

    path: Path

    def run(
        self, argv: Sequence[str], *, cwd: Path | None = None, timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` to its end inside the group, in the directory `cwd`, with its output as text."""
        joined = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.path / "cgroup.procs"), *argv]
        return subprocess.run(joined, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False)


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[MemoryGroup]:
    """A group whose processes may use `limit_bytes`, page cache included; gone with the block. Needs root."""
    is_v1 = (_V1 / "memory.limit_in_bytes").exists()
    path = (_V1 if is_v1 else _V2) / f"corelane-test-{uuid.uuid4().hex}"
    path.mkdir()
    try:
        (path / ("memory.limit_in_bytes" if is_v1 else "memory.max")).write_text(str(limit_bytes))
        yield MemoryGroup(path)
    finally:
        path.rmdir()


def can_limit_memory() -> bool:
    """Whether this process may make such a group: root, and the memory controller is there to be used."""
    try:
        with memory_group(1 << 30):
            return True
    except OSError:
        return False
