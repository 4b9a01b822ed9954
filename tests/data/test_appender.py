"""Growing arrays: on disk and in memory the same content, the same digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from corelane.data.appender import FileAppender, MemoryAppender, npy_digest, npy_header


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
@pytest.mark.parametrize("row_shape", [(), (3,), (2, 3, 4)])
@pytest.mark.parametrize("sizes", [[], [0], [2, 0, 3]])
def test_file_and_memory_hold_the_same(
    tmp_path: Path, dtype: type[np.generic], row_shape: tuple[int, ...], sizes: list[int]
) -> None:
    """Fewer rows than announced, in any pieces: the file is read by NumPy, aligned, and equals the one in memory."""
    path = tmp_path / "array.npy"
    memory = MemoryAppender(np.dtype(dtype), row_shape, max_rows=9)
    pieces = [np.random.default_rng(size).normal(size=(size, *row_shape)).astype(dtype) for size in sizes]
    with FileAppender(path, np.dtype(dtype), row_shape, max_rows=9) as file:
        for piece in pieces:
            file.append(piece)
            memory.append(piece)
        file.finish()
    memory.finish()
    expected = np.concatenate([np.empty((0, *row_shape), dtype), *pieces])
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    assert mapped.dtype == expected.dtype
    assert np.array_equal(mapped, expected)
    assert np.array_equal(memory.rows, expected)
    assert not memory.rows.flags.writeable
    assert mapped.ctypes.data % 64 == 0
    assert npy_digest(memory.rows) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_abandoned_file_is_closed(tmp_path: Path) -> None:
    """Leaving the block by an error closes the file; the fixture that looks for open files sees none."""
    appender = FileAppender(tmp_path / "array.npy", np.dtype(np.float32), (), max_rows=1)

    def fail() -> None:
        with appender:
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with pytest.raises(ValueError, match="closed"):
        appender.append(np.zeros(1, np.float32))


def test_the_header_does_not_grow() -> None:
    """However many rows, the header has 256 bytes, so it can be written again in place."""
    headers = [npy_header(np.dtype(np.float32), (num_rows, 3, 4096, 4096)) for num_rows in (0, 2**62)]
    assert [len(header) for header in headers] == [256, 256]
    assert all(header.endswith(b"\n") for header in headers)
