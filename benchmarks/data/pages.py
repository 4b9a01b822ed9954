"""Files out of the kernel's page cache, so that what is read next comes from the disk. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def drop_from_cache(paths: Iterable[Path]) -> None:
    """Forget what the kernel keeps of `paths`: written out first, then dropped. Other files stay where they are."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
