"""Arrays that grow row by row while their number of rows is not yet final: `.npy` files on disk, or memory.

Both give the same SHA-256 for the same rows (that of the `.npy` file), so prepared data is known by its content
whichever way it was kept. The header is ours rather than that of NumPy's writer because it is written before the number
of rows is known and once more, in place, afterwards; `numpy.load` reads it as any other.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from corelane.core.types import Array
from corelane.store.bundle import FileEntry

_HEADER_BYTES = 256  # a multiple of 64, so that mapped rows are aligned; room for any shape we make


class Appender(Protocol):
    """Takes rows [n, *row_shape] until it is finished."""

    def append(self, rows: Array) -> None:
        """Add `rows` behind those that are there."""
        ...

    def finish(self) -> None:
        """No more rows will come."""
        ...


class FileAppender:
    """Writes an `.npy` file in one sequential pass; a context manager that closes it in any case.

    A full disk is an `OSError` here. Through a memory map it would be a signal that kills the process. `entry` has the
    file's SHA-256 and size when it is finished, None when fewer rows came than were announced: the header, which comes
    first, says how many there are.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], row_shape: tuple[int, ...], *, max_rows: int) -> None:
        self._dtype = dtype
        self._row_shape = row_shape
        self._num_rows = self._num_bytes = 0
        self._max_rows = max_rows
        self._hash = hashlib.sha256()
        self.entry: FileEntry | None = None
        self._file = path.open("wb", buffering=0)  # the rows come in large pieces
        self._write(npy_header(dtype, (max_rows, *row_shape)))

    def append(self, rows: Array) -> None:
        """Add `rows` [n, *row_shape]."""
        self._write(np.ascontiguousarray(rows, self._dtype).reshape(-1).view(np.uint8).data)
        self._num_rows += len(rows)

    def finish(self) -> None:
        """Write the true number of rows into the header, where it is another, and close the file."""
        if self._num_rows == self._max_rows:
            self.entry = FileEntry(self._hash.hexdigest(), self._num_bytes)
        else:
            self._file.seek(0)
            self._write(npy_header(self._dtype, (self._num_rows, *self._row_shape)))
        self._file.close()

    def _write(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self._num_bytes += len(data)
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class MemoryAppender:
    """Fills an array allocated for at most `max_rows` rows."""

    def __init__(self, dtype: np.dtype[Any], row_shape: tuple[int, ...], *, max_rows: int) -> None:
        self._whole = np.empty((max_rows, *row_shape), dtype)
        self._num_rows = 0

    def append(self, rows: Array) -> None:
        """Add `rows` [n, *row_shape]."""
        self._whole[self._num_rows : self._num_rows + len(rows)] = rows
        self._num_rows += len(rows)

    def finish(self) -> None:
        """Nothing is open."""

    @property
    def rows(self) -> Array:
        """What was appended: [num_rows, *row_shape]."""
        rows = self._whole[: self._num_rows]
        rows.flags.writeable = False
        return rows


def npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """The first 256 bytes of an `.npy` file, format version 1.0, C order; always as long, whatever the shape."""
    text = repr({"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
    prefix = b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little")
    return prefix + text.encode().ljust(_HEADER_BYTES - 11) + b"\n"


def npy_digest(values: Array) -> str:
    """SHA-256 (hex) of the `.npy` file that `FileAppender` would write for `values`."""
    digest = hashlib.sha256(npy_header(values.dtype, values.shape))
    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
