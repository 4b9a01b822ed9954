"""Preparing killed with SIGKILL before any one of its system calls that change a file: the cache is never a wrong one.

A dry run under strace lists those calls. Then, for one after the other, the same process is run again and killed right
before that call. Afterwards the next run must give the digest of an undisturbed one, every entry must be whole, and
what the killed process left must go with the next build.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from corelane.store.bundle import verify_bundle
from tests.faults.prepare_child import prepared

CALLS = "fsync,fdatasync,rename,renameat,renameat2,mkdir,unlink,unlinkat,rmdir,flock,utimensat,write,ftruncate,link"
NUM_KILLS = 2  # of each state in the short tier


def _cold(folder: Path) -> None:
    """Nothing is there yet."""


def _full(folder: Path) -> None:
    """Two other entries are there, and have to go."""
    for seed in (1, 2):
        prepared(folder, seed)


def _broken(folder: Path) -> None:
    """The entry is there, and one of its bytes is wrong."""
    prepared(folder, 7)
    (array,) = (folder / "cache" / "prepared").glob("*/train/0.npy")
    data = array.read_bytes()
    array.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


STATES = {"cold": _cold, "full": _full, "broken": _broken}


def _run(folder: Path, *strace: str) -> int:
    """The child under strace; strace dies of the signal that its child died of."""
    command = ["strace", "-f", "-qq", "-e", f"trace={CALLS}", *strace]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command += [sys.executable, "-m", "tests.faults.prepare_child", str(folder)]
    return subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode


def _moments(trace: Path) -> list[tuple[str, int]]:
    """Each call of the dry run after the imports, as (name, how many of that name came until then)."""
    counts: Counter[str] = Counter()
    moments = []
    has_begun = False
    for line in trace.read_text().splitlines():
        match = re.match(r"\d+\s+(\w+)\(", line)
        if match is None:
            continue
        counts[match[1]] += 1
        has_begun = has_begun or '"begins' in line
        if has_begun:
            moments.append((match[1], counts[match[1]]))
    return moments


def _sweep(tmp_path: Path, state: str, num_kills: int | None) -> None:
    start = tmp_path / "start"
    start.mkdir()
    lines = [f"{i * 0.37:.3f},{('red', 'green', 'blue')[i % 3]},{('good', 'bad')[i // 3 % 2]}" for i in range(3000)]
    (start / "rows.csv").write_text("\n".join(["size,colour,grade", *lines]) + "\n")
    STATES[state](start)
    calm = Path(shutil.copytree(start, tmp_path / "calm"))
    assert _run(calm, "-o", str(tmp_path / "trace")) == 0
    expected, other = prepared(calm, 7), prepared(calm, 8)
    moments = _moments(tmp_path / "trace")
    assert len(moments) > 80
    num_kills = num_kills or len(moments)
    chosen = [int((kill + 0.5) * len(moments) / num_kills) for kill in range(num_kills)]
    num_killed = 0
    for index in chosen:
        name, count = moments[index]
        folder = Path(shutil.copytree(start, tmp_path / f"killed-{index}"))
        code = _run(folder, "-o", "/dev/null", "-e", f"inject={name}:signal=SIGKILL:when={count}")
        num_killed += code != 0
        where = f"{state}, killed before call {index}: {name} number {count}"
        assert prepared(folder, 7) == expected, where
        assert prepared(folder, 8) == other, where
        for entry in (folder / "cache" / "prepared").iterdir():
            verify_bundle(entry, "prepared")
        left = [path for path in folder.rglob("*") if path.name.endswith(".tmp")]
        assert [*left, *(folder / "cache" / "locks").iterdir()] == [], where
        shutil.rmtree(folder)
    assert num_killed > 0.8 * len(chosen), "the calls of a run are the same every time"


@pytest.mark.needs("strace")
@pytest.mark.parametrize("state", STATES)
def test_preparing_killed_at_some_moments(tmp_path: Path, state: str) -> None:
    """Killed before some calls, spread over the run: the next run uses the cache or builds it, never a wrong one."""
    _sweep(tmp_path, state, NUM_KILLS)


@pytest.mark.slow
@pytest.mark.needs("strace")
@pytest.mark.parametrize("state", STATES)
def test_preparing_killed_at_every_moment(tmp_path: Path, state: str) -> None:
    """Killed before each call there is: the same."""
    _sweep(tmp_path, state, None)
