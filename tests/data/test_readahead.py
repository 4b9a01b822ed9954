"""Reading ahead: what is asked for is in memory afterwards, and nothing else is asked for."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np

from corelane.core.types import Array
from corelane.data.readahead import Readahead, is_mapped


def _mapped(folder: Path) -> Array:
    """A map of 4,096 rows of 4 KiB on disk, none of whose pages is in memory."""
    path = folder / "rows.npy"
    np.save(path, np.zeros((4096, 1024), np.float32))
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    return np.asarray(np.load(path, mmap_mode="r"))


def _num_resident(array: Array) -> int:
    begin = array.ctypes.data - array.ctypes.data % mmap.PAGESIZE
    pages = (ctypes.c_ubyte * (array.nbytes // mmap.PAGESIZE))()
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(begin), ctypes.c_size_t(array.nbytes), pages) == 0
    return sum(page & 1 for page in pages)


def test_the_rows_asked_for_are_read(tmp_path: Path) -> None:
    """All pages of the ranges are in memory, and few others."""
    mapped = _mapped(tmp_path)
    before = _num_resident(mapped)  # all of them on a file system in memory, else none
    Readahead([mapped]).fetch([(0, 100), (2000, 2100)])
    assert _num_resident(mapped[0:99]) == 99
    assert _num_resident(mapped[2001:2099]) == 98
    assert _num_resident(mapped) <= before + 300


def test_only_maps_are_read(tmp_path: Path) -> None:
    """Arrays in memory and empty ones have nothing to be read; views of maps are maps."""
    mapped = _mapped(tmp_path)
    assert is_mapped(mapped[5:])
    assert not is_mapped(np.zeros(3))
    Readahead([np.zeros((10, 3)), mapped[:0]]).fetch([(0, 10)])
