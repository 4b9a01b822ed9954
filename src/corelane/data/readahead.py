"""Mapped arrays read before they are gathered from: whole ranges of rows, so that the disk reads in sequence.

Rows gathered at random from a map would be read a page at a time, each waited for. Here the kernel is asked for all
pages of a window of the order at once, and then waited for on a thread of the processor. Arrays that lie in memory
have nothing to be read. Used by `CPUDataProcessor`.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable, Sequence

import numpy as np

from corelane.core.types import Array

_POPULATE_READ = 22  # MADV_POPULATE_READ of Linux 5.14, see madvise(2); before it the call fails and pages come later


class Readahead:
    """Reads rows of those of `arrays` [n, ...] that are memory-mapped. Frozen; safe to use from several threads."""

    def __init__(self, arrays: Iterable[Array]) -> None:
        self._maps = [(_address(array), array.strides[0]) for array in arrays if array.size and is_mapped(array)]

    def fetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Read the rows of `ranges` (first, behind the last) and wait for them; the interpreter is free meanwhile."""
        for advice in (mmap.MADV_WILLNEED, _POPULATE_READ):
            for address, row_bytes in self._maps:
                for first, end in ranges:
                    _advise(address + first * row_bytes, address + end * row_bytes, advice)


def is_mapped(array: Array) -> bool:
    """Whether the array's memory is a map of a file."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap.mmap)


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _advise(begin: int, end: int, advice: int) -> None:
    """Tell the kernel about the pages that hold the bytes `begin` to `end`. What it cannot do is no error here."""
    begin -= begin % mmap.PAGESIZE
    _madvise(begin, end - begin, advice)


_madvise = ctypes.CDLL(None).madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
