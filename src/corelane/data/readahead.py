"""Mapped arrays read before they are gathered from, and let go afterwards: whole ranges of rows, so that the disk reads
in sequence and data larger than the memory pass through it.

Rows gathered at random from a map would be read a page at a time, each waited for. Here the kernel is asked for all
pages of a window of the order at once, and then waited for on a thread of the processor. Left alone, it would keep the
pages of past windows, which were touched often, and drop those just read ahead: 1.6 GB were read at 7 MB/s in 1 GiB of
memory, which is the disk's 800 MB/s when past windows are let go. Arrays that lie in memory have nothing to be read.
Used by `CPUDataProcessor`.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from corelane.core.types import Array

_Memmap: TypeAlias = "np.memmap[tuple[int, ...], np.dtype[Any]]"

_COLD = 20  # MADV_COLD of Linux 5.4, see madvise(2); before it the call fails and changes nothing
_POPULATE_READ = 22  # MADV_POPULATE_READ of Linux 5.14; before it the call fails and pages come later
_ROOMY_SHARE = 0.5  # of the memory: maps up to it are left to the kernel, the rest is for the process and for others


@dataclass(frozen=True, slots=True)
class _Map:
    """A mapped array: its first byte in memory and in its file, and the bytes of a row."""

    address: int
    path: Path
    offset: int
    row_bytes: int


class Readahead:
    """Reads rows of those of `arrays` [n, ...] that are memory-mapped, on a machine of `memory_bytes`.

    Frozen; safe to use from several threads.
    """

    def __init__(self, arrays: Iterable[Array], memory_bytes: int) -> None:
        roots = [(array, _root(array)) for array in arrays if array.size]
        self._maps = [_describe(array, root) for array, root in roots if root is not None]
        num_bytes = sum(array.nbytes for array, root in roots if root is not None)
        self._is_tight = num_bytes > _ROOMY_SHARE * memory_bytes
        self._is_too_large = num_bytes > memory_bytes

    def ask(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Have the rows of `ranges` (first, behind the last) read, and do not wait for them."""
        self._advise(ranges, mmap.MADV_WILLNEED)

    def wait(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Wait for rows that were asked for; the interpreter is free meanwhile."""
        self._advise(ranges, _POPULATE_READ)

    def leave(self, ranges: Sequence[tuple[int, int]]) -> None:
        """The rows of `ranges` are not needed again in this epoch.

        Where the arrays take most of the memory their pages become the first to be taken; where the next epoch could
        not find all of them anyway they are given up at once. They can still be gathered, and are then read again.
        """
        if self._is_tight:
            self._advise(ranges, _COLD)
            self._advise(ranges, mmap.MADV_DONTNEED)  # unmaps only: what is mapped is kept much longer
        if self._is_too_large:
            for mapped in self._maps:
                _drop(mapped, ranges)

    def _advise(self, ranges: Sequence[tuple[int, int]], advice: int) -> None:
        for mapped in self._maps:
            for first, end in ranges:
                begin = mapped.address + first * mapped.row_bytes
                begin -= begin % mmap.PAGESIZE
                _madvise(begin, mapped.address + end * mapped.row_bytes - begin, advice)  # failing is no error here


def is_mapped(array: Array) -> bool:
    """Whether the array's memory is a map of a file that has a name."""
    return _root(array) is not None


def _root(array: Array) -> _Memmap | None:
    """The memmap that `array` is a view of, the one that covers the whole map."""
    base: object = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and isinstance(base.base, mmap.mmap):
            return base if base.filename is not None else None
        base = base.base
    return None


def _describe(array: Array, root: _Memmap) -> _Map:
    address = _address(array)
    return _Map(address, Path(str(root.filename)), root.offset + address - _address(root), array.strides[0])


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _drop(mapped: _Map, ranges: Sequence[tuple[int, int]]) -> None:
    """Drop the pages of `ranges` from the kernel's cache. Of a file that was removed or replaced nothing is dropped."""
    with suppress(OSError):
        descriptor = os.open(mapped.path, os.O_RDONLY)
        try:
            for first, end in ranges:
                begin, length = mapped.offset + first * mapped.row_bytes, (end - first) * mapped.row_bytes
                os.posix_fadvise(descriptor, begin, length, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


_madvise = ctypes.CDLL(None).madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
