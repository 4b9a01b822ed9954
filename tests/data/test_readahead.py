"""Reading ahead: what is asked for is in memory afterwards, and nothing else; what is left behind goes if it must."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np

from corelane.core.types import Array
from corelane.data.readahead import Readahead, is_mapped

_AMPLE = 1 << 40
_NUM_ROWS = 4096


def _mapped(folder: Path, num_rows: int = _NUM_ROWS) -> Array:
    """A map of `num_rows` rows of 4 KiB on disk, none of whose pages is in memory."""
    path = folder / "rows.npy"
    np.save(path, np.zeros((num_rows, 1024), np.float32))
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
    """All pages of the ranges are in memory, and none of those far from them."""
    mapped = _mapped(tmp_path, num_rows=5 * _NUM_ROWS)
    far = mapped[3 * _NUM_ROWS :]  # 40 MiB behind the last range: a disk's own reading ahead reaches some MiB
    before = _num_resident(far)  # all of them on a file system in memory, else none
    readahead = Readahead([mapped], _AMPLE)
    readahead.ask([(0, 100), (2000, 2100)])
    readahead.wait([(0, 100), (2000, 2100)])
    assert _num_resident(mapped[0:99]) == 99
    assert _num_resident(mapped[2001:2099]) == 98
    assert _num_resident(far) <= before


def test_only_maps_are_read(tmp_path: Path) -> None:
    """Arrays in memory and empty ones have nothing to be read; views of maps are maps."""
    mapped = _mapped(tmp_path)
    assert is_mapped(mapped[5:])
    assert not is_mapped(np.zeros(3))
    for nothing in (np.zeros((10, 3)), mapped[:0]):
        readahead = Readahead([nothing], memory_bytes=1)
        readahead.ask([(0, 10)])
        readahead.wait([(0, 10)])
        readahead.leave([(0, 10)])


def test_rows_left_behind_go_where_the_data_exceed_the_memory(tmp_path: Path) -> None:
    """Only the pages of the ranges are given up, and their rows can still be read."""
    mapped = _mapped(tmp_path)
    before = _num_resident(mapped[1:999])  # all of them on a file system in memory, where nothing can go
    readahead = Readahead([mapped[:2000]], memory_bytes=1 << 20)
    readahead.ask([(0, 2000)])
    readahead.wait([(0, 2000)])
    readahead.leave([(0, 1000)])
    assert _num_resident(mapped[1:999]) <= before
    assert _num_resident(mapped[1001:1999]) == 998
    assert (mapped[:1000] == 0).all()


def test_a_view_is_left_at_its_own_place(tmp_path: Path) -> None:
    """Rows of a view count from where the view begins in the file."""
    mapped = _mapped(tmp_path)
    before = _num_resident(mapped[2001:2099])
    readahead = Readahead([mapped[2000:]], memory_bytes=1 << 20)
    Readahead([mapped], _AMPLE).ask([(0, 4096)])
    Readahead([mapped], _AMPLE).wait([(0, 4096)])
    readahead.leave([(0, 100)])
    assert _num_resident(mapped[2001:2099]) <= before
    assert _num_resident(mapped[1:1999]) == 1998


def test_rows_stay_where_they_fit(tmp_path: Path) -> None:
    """The next epoch finds them in memory."""
    mapped = _mapped(tmp_path)
    readahead = Readahead([mapped], _AMPLE)
    readahead.ask([(0, 1000)])
    readahead.wait([(0, 1000)])
    readahead.leave([(0, 1000)])
    assert _num_resident(mapped[1:999]) == 998
