"""Processes in a memory control group of their own: what does not fit there is killed by the kernel, not swapped.

Control groups of both versions; making one takes root. Page cache that a process makes counts too, and goes when room
is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from benchmarks.measure import BenchmarkError

ROOT = Path("/sys/fs/cgroup")


@contextmanager
def memory_limit(limit_bytes: int, root: Path = ROOT) -> Iterator[Path]:
    """A fresh control group that may have `limit_bytes`; processes enter it through `inside`. It goes with the context.

    Raises `BenchmarkError` where no group can be made.
    """
    is_unified = not (root / "memory").is_dir()
    group = (root if is_unified else root / "memory") / f"corelane-benchmark-{token_hex(4)}"
    try:
        group.mkdir()
        name = "memory.max" if is_unified else "memory.limit_in_bytes"
        (group / name).write_text(str(limit_bytes))
    except OSError as error:
        raise BenchmarkError(
            f"a memory control group of {limit_bytes} bytes must be there for this case, got {error.strerror} for "
            f"{group}; run as root, or leave the case out with --case"
        ) from error
    try:
        yield group
    finally:
        group.rmdir()


def inside(group: Path, command: Sequence[str]) -> list[str]:
    """`command`, run in `group` from its first instruction on."""
    return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group), *command]
