"""The process that the store's fault tests kill, starve and cut off: it saves checkpoints as a run does. Not a test.

It has no torch, so that it starts in a twentieth of a second. A checkpoint of step n holds bytes that follow from n,
one file in a folder of its own. What it prints as durable is what a trainer would announce.
"""

from __future__ import annotations

import os
import random
import stat
import sys
from pathlib import Path
from typing import Any

from corelane.core.errors import BundleError, CorelaneError
from corelane.store.bundle import remove_temporaries, verify_bundle, write_bundle
from corelane.store.durable import discard

KIND = "checkpoint"
KEEP = 3


def content(step: int, num_bytes: int = 3000) -> dict[str, bytes]:
    """The files of the checkpoint of `step`: about `num_bytes` in all, others for every step."""
    draw = random.Random(step)
    half = num_bytes // 2
    return {
        "model.safetensors": draw.randbytes(half),
        "optimizer/moments.safetensors": draw.randbytes(half),
        "state.json": b'{"step":%d}' % step,
    }


def save(checkpoints: Path, step: int, num_bytes: int = 3000) -> None:
    """Save the checkpoint of `step`; when this returns it survives a power cut."""
    remove_temporaries(checkpoints)
    files = content(step, num_bytes)
    with write_bundle(checkpoints / str(step), KIND, needed_bytes=sum(map(len, files.values()))) as folder:
        for name, data in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)


def prune(checkpoints: Path) -> None:
    """Remove all but the last `KEEP`."""
    for step in saved(checkpoints)[:-KEEP]:
        discard(checkpoints / str(step))


def saved(checkpoints: Path) -> list[int]:
    """The steps that have a directory, oldest first."""
    return sorted(int(path.name) for path in checkpoints.glob("[0-9]*") if path.name.isdecimal())


def whole(checkpoints: Path, num_bytes: int = 3000) -> list[int]:
    """The steps whose checkpoints verify and hold the bytes that they should, oldest first."""
    return [step for step in saved(checkpoints) if _is_whole(checkpoints / str(step), step, num_bytes)]


def _is_whole(path: Path, step: int, num_bytes: int) -> bool:
    try:
        verify_bundle(path, KIND)
    except BundleError:
        return False
    return all((path / name).read_bytes() == data for name, data in content(step, num_bytes).items())


def main(checkpoints: Path, first: int, last: int, num_bytes: int) -> None:
    """Save the steps from `first` to `last` and say so; failures are told and passed over, as a trainer does."""
    _say("begins")
    for step in range(first, last + 1):
        try:
            save(checkpoints, step, num_bytes)
        except (CorelaneError, OSError) as error:
            _say(f"failed {step} {type(error).__name__} {error}")
            continue
        _say(f"durable {step}")
        try:
            prune(checkpoints)
        except OSError as error:
            _say(f"not pruned {error}")


def be_careless(left_out: str) -> None:
    """Leave out the flushes of `files`, or of `names`: what the tests must catch."""
    flush = os.fsync

    def flush_some(fd: Any) -> None:
        if left_out != ("files" if stat.S_ISREG(os.fstat(fd).st_mode) else "names"):
            flush(fd)

    os.fsync = flush_some


def _say(line: str) -> None:
    """By a call that a save does not make, so that tests can fail every `write` of one for good."""
    os.writev(sys.stdout.fileno(), [line.encode(), b"\n"])


if __name__ == "__main__":
    be_careless(sys.argv[5] if len(sys.argv) > 5 else "")
    main(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
