"""Keeps freed memory with the process for a while, so that each training step finds it again instead of new pages.

A step frees its activations and the next one allocates the same sizes. glibc gives the top of its heap back to the
kernel in between, and unmaps the heaps of threads that are empty; each page then costs a fault and is filled with
zeros. On the 2-core machine of `docs/benchmarks.md` the CNN at batch 64 took 3,100 faults a step in a thread of its
own; forward and backward went from 17.0 to 12.7 ms without them. Called around the training by `train`; a server gives
back what a model held that is served no more.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8  # mallopt(3), glibc's malloc.h

_MOST = 32 << 20  # the largest threshold that glibc takes; larger blocks are mapped and unmapped each time
_NEVER = (1 << 31) - 1  # mallopt's argument is an int
_PAD = 64 << 20  # the heap grows by so much at a time
_DEFAULT_PAD = 128 << 10


@contextmanager
def kept_heap() -> Iterator[None]:
    """Within the context, memory that is freed stays with the process, in one heap for all threads that begin in it.

    Afterwards what is free goes back to the kernel. It is a setting of the process. Nothing happens where the C library
    has no `mallopt` (musl, macOS); another allocator in glibc's place is left alone.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        yield
        return
    _set(library, {_MMAP_THRESHOLD: _MOST, _TRIM_THRESHOLD: _NEVER, _TOP_PAD: _PAD, _ARENA_MAX: 1})
    try:
        yield
    finally:
        _set(library, {_TRIM_THRESHOLD: 2 * _MOST, _TOP_PAD: _DEFAULT_PAD, _ARENA_MAX: 0})
        library.malloc_trim(0)


def trim_heap() -> None:
    """Give memory that was freed back to the kernel, where the C library can be told to (glibc)."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def _set(library: ctypes.CDLL, values: dict[int, int]) -> None:
    for option, value in values.items():
        library.mallopt(option, value)
