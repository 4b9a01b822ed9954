"""Where Arrow takes its memory from while data are prepared: from the system's allocator, and not from its own.

Preparing allocates on the thread that reads and frees on those that transform. Arrow's default (mimalloc) then gives
pages back to the system and takes them again: of two million rows of 30 columns a tenth of the time and of the memory
went there. Called by `prepare.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa


@contextmanager
def system_allocator() -> Iterator[None]:
    """Arrow's default memory pool is the system's within the context, and what it was afterwards.

    It is a setting of the process: what other threads allocate meanwhile comes from there too, and may stay longer.
    """
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)
