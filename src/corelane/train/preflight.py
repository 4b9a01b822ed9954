"""What is found out before step 0 instead of at the first save: whether checkpoints can be written where they shall be.

`run.py` calls it. A probe is written, flushed and renamed as a checkpoint is.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from corelane.core.errors import ConfigError, DiskFullError, SaveError
from corelane.store.durable import remove_temporaries, write_atomic
from corelane.train.retention import saved_steps

PROBE = ".probe"
STATES_PER_WEIGHT = 2  # the two moments of AdamW, the largest of our optimisers
OTHER_BYTES = 256 << 10  # state and history of a young run


def check_directory(path: Path, size_bytes: int) -> None:
    """Make the directory `path` where it is not there, and see that checkpoints of `size_bytes` can be written into it.

    A run that begins needs room for two; one that goes on has some, which make room for the next but one.

    Raises `ConfigError` when it is no directory or cannot be written, `DiskFullError` when there is less than that
    free, `SaveError` when the disk fails.
    """
    if path.is_symlink() and not path.exists():
        raise ConfigError(
            f"{path} must be a directory, got a symbolic link to {path.readlink()}, where nothing is; remove it"
        )
    remove_temporaries(path)
    try:
        write_atomic(path / PROBE, b"corelane")
        (path / PROBE).unlink()
    except OSError as error:
        raise SaveError(
            f"{path} must take a file, got {error.strerror or error}; see to the disk", detail=str(error)
        ) from error
    free = shutil.disk_usage(path).free
    num, what = (1, "one more checkpoint") if saved_steps(path) else (2, "two checkpoints")
    if free < num * size_bytes:
        raise DiskFullError(
            f"the disk must have {num * size_bytes:,} bytes free for {what} in {path}, got {free:,}; free some "
            "space or choose another directory"
        )


def checkpoint_bytes(module: torch.nn.Module) -> int:
    """About how much a checkpoint of `module` takes: its weights, the best ones, and the optimiser's state."""
    weights = sum(tensor.nbytes for tensor in [*module.parameters(), *module.buffers()])
    trained = sum(parameter.nbytes for parameter in module.parameters() if parameter.requires_grad)
    return 2 * weights + STATES_PER_WEIGHT * trained + OTHER_BYTES
