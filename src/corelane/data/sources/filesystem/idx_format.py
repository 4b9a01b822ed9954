"""IDX files, the format of MNIST: a file of images and, beside it, one of labels; gzipped or not.

The format is described at http://yann.lecun.com/exdb/mnist/: two zero bytes, a type code, the number of dimensions, the
dimensions as big-endian 32-bit integers, then the values. Headers are checked before anything is allocated.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from corelane.core.errors import DataError
from corelane.core.types import Array
from corelane.data.sources.filesystem.files import FrozenFile
from corelane.data.sources.filesystem.reader import MAX_BATCH_BYTES, Chunk

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMENSIONS = 4  # rows, height, width, channels
_MAX_ROW_BYTES = MAX_BATCH_BYTES


@dataclass(frozen=True, slots=True)
class IdxHeader:
    """What an IDX header says: number of rows, shape of one of them, and the stored (big-endian) type."""

    num_rows: int
    row_shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def row_bytes(self) -> int:
        """Size of one row in bytes."""
        return math.prod(self.row_shape) * self.dtype.itemsize

    @property
    def header_bytes(self) -> int:
        """Where the values begin."""
        return 4 + 4 * (1 + len(self.row_shape))


class IdxReader:
    """Rows of an IDX file of images as a tensor column `image`, with a column `label` where there are labels."""

    def __init__(self, images: FrozenFile, labels: FrozenFile | None, batch_rows: int) -> None:
        self.files: tuple[FrozenFile, ...] = (images,) if labels is None else (images, labels)
        self._headers = tuple(_read_header(file) for file in self.files)
        self._check_shapes()
        rows_that_fit = MAX_BATCH_BYTES // max(1, self._headers[0].row_bytes)
        self._batch_rows = max(1, min(batch_rows, rows_that_fit))

    def schema(self) -> pa.Schema:
        """`image`: fixed-shape tensor of one row; `label`: the stored number type."""
        kind = pa.from_numpy_dtype(self._headers[0].dtype.newbyteorder("="))
        fields = [("image", pa.fixed_shape_tensor(kind, self._headers[0].row_shape))]
        if len(self._headers) == 2:
            fields.append(("label", pa.from_numpy_dtype(self._headers[1].dtype.newbyteorder("="))))
        return pa.schema(fields)

    def read(self, start: int) -> Iterator[Chunk]:
        """Chunks of at most `batch_rows` rows from row `start` on."""
        schema = self.schema()
        with ExitStack() as stack:
            streams = [
                stack.enter_context(closing(_read_values(file, header, start, self._batch_rows)))
                for file, header in zip(self.files, self._headers, strict=True)
            ]
            for first in range(start, self._headers[0].num_rows, self._batch_rows):
                images, *labels = [next(stream) for stream in streams]
                columns = [pa.FixedShapeTensorArray.from_numpy_ndarray(images), *map(pa.array, labels)]
                yield Chunk(pa.RecordBatch.from_arrays(columns, schema=schema), first, first + len(images))
            for stream in streams:
                next(stream, None)  # runs to its end, where surplus bytes are noticed

    def _check_shapes(self) -> None:
        path = self.files[0].path
        if not self._headers[0].row_shape:
            raise DataError(f"{path} must hold images, got single values; exchange `path` and `labels`?")
        if len(self._headers) < 2:
            return
        images, labels = self._headers
        if labels.row_shape:
            raise DataError(
                f"{self.files[1].path} must hold one label a row, got shape {labels.row_shape}; check `labels`"
            )
        if labels.num_rows != images.num_rows:
            raise DataError(
                f"{self.files[1].path} must hold {images.num_rows} labels, as many as {path} has images, "
                f"got {labels.num_rows}; check `labels`"
            )


def is_idx(head: bytes) -> bool:
    """Whether a file that begins with `head` (4 bytes) can be IDX."""
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in _TYPES and 1 <= head[3] <= _MAX_DIMENSIONS


def _read_header(file: FrozenFile) -> IdxHeader:
    with file.open_content() as content:
        magic = content.read(4)
        if not is_idx(magic):
            raise DataError(f"{file.path} must be an IDX file, got the first bytes {magic!r}; check the path")
        raw = content.read(4 * magic[3])
    if len(raw) != 4 * magic[3]:
        raise _cut(file)
    num_rows, *shape = struct.unpack(f">{magic[3]}I", raw)
    header = IdxHeader(num_rows, tuple(shape), np.dtype(_TYPES[magic[2]]))
    if not 0 < header.row_bytes <= _MAX_ROW_BYTES:
        raise DataError(f"one row of {file.path} must have 1 to {_MAX_ROW_BYTES} bytes, got shape {header.row_shape}")
    if not file.is_gzipped():
        _check_size(file, header)
    return header


def _read_values(file: FrozenFile, header: IdxHeader, start: int, batch_rows: int) -> Generator[Array, None, None]:
    with file.open_content() as content:
        content.seek(header.header_bytes + start * header.row_bytes)
        for first in range(start, header.num_rows, batch_rows):
            yield _read_rows(content, file, header, min(batch_rows, header.num_rows - first))
        if content.read(1):
            raise DataError(f"{file.path} must end with the values its header announces, got more; fetch it again")


def _read_rows(content: BinaryIO, file: FrozenFile, header: IdxHeader, num_rows: int) -> Array:
    data = bytearray(num_rows * header.row_bytes)
    view = memoryview(data)
    filled = 0
    while filled < len(data):
        count = content.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            raise _cut(file)
        filled += count
    values = np.frombuffer(data, header.dtype).reshape(num_rows, *header.row_shape)
    return values.astype(header.dtype.newbyteorder("="), copy=False)


def _check_size(file: FrozenFile, header: IdxHeader) -> None:
    """Compare the size of a file that is not packed with what its header announces."""
    expected = header.header_bytes + header.num_rows * header.row_bytes
    if file.size != expected:
        raise DataError(
            f"{file.path} must have {expected} bytes, as its header says ({header.num_rows} rows of shape "
            f"{header.row_shape}), got {file.size}; fetch it again"
        )


def _cut(file: FrozenFile) -> DataError:
    return DataError(f"{file.path} must hold all the values its header announces, got fewer; fetch it again")
