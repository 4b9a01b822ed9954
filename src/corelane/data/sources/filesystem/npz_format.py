"""NumPy's files: each array of an `.npz` is a column, an `.npy` is one column `x`; the first dimension is the rows.

Arrays of objects are pickles and are refused unread. What a zip claims to unfold to is checked before it is unpacked.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from corelane.core.errors import DataError
from corelane.core.types import Array
from corelane.data.sources.filesystem.files import FrozenFile
from corelane.data.sources.filesystem.reader import Chunk
from corelane.data.sources.memory import columns_table
from corelane.data.sources.plain import check_names, plain_rows, plain_schema

MAX_BYTES = 16 << 30  # unpacked; arrays are held in memory while they are read
MAX_ARRAYS = 10_000
_NPY = b"\x93NUMPY"


class NpzReader:
    """Rows of one `.npz` or `.npy` file."""

    def __init__(self, file: FrozenFile, batch_rows: int) -> None:
        self.files: tuple[FrozenFile, ...] = (file,)
        self._file = file
        self._batch_rows = batch_rows
        self._schema = plain_schema(self._table().schema)
        check_names(self._schema.names, str(file.path))

    def schema(self) -> pa.Schema:
        """One column an array; more than one dimension is a tensor."""
        return self._schema

    def read(self, start: int) -> Iterator[Chunk]:
        """Chunks of at most `batch_rows` rows from row `start` on."""
        table = self._table()
        for first in range(start, table.num_rows, self._batch_rows):
            (rows,) = table.slice(first, self._batch_rows).combine_chunks().to_batches()
            yield Chunk(plain_rows(rows, self._schema), first, first + rows.num_rows)

    def _table(self) -> pa.Table:
        path = self._file.path
        with self._file.open_content() as content:
            try:
                arrays = _read_arrays(content, str(path))
            except (ValueError, zipfile.BadZipFile, EOFError, KeyError, zlib.error, NotImplementedError) as error:
                message = f"{path} must be a whole NumPy file of numbers or texts, got: {_words(error)}; write it again"
                raise DataError(message, detail=str(error)) from error
        if not arrays:
            raise DataError(f"{path} must hold at least one array, got none; write it again")
        return columns_table(arrays)


def _read_arrays(content: BinaryIO, where: str) -> dict[str, Array]:
    if content.read(len(_NPY)) == _NPY:
        content.seek(0)
        return {"x": np.lib.format.read_array(content, allow_pickle=False)}
    content.seek(0)
    with zipfile.ZipFile(content) as archive:
        members = archive.infolist()
        num_bytes = sum(member.file_size for member in members)
        if num_bytes > MAX_BYTES or len(members) > MAX_ARRAYS:
            raise DataError(
                f"{where} must unpack to at most {MAX_BYTES} bytes in {MAX_ARRAYS} arrays, "
                f"got {num_bytes} in {len(members)}; split it"
            )
        arrays = {}
        for member in members:
            with archive.open(member) as file:
                arrays[member.filename.removesuffix(".npy")] = _read_member(file, member.file_size)
        return arrays


def _read_member(file: object, size: int) -> Array:
    version = np.lib.format.read_magic(file)  # type: ignore[arg-type]
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)  # type: ignore[arg-type]
    if dtype.hasobject:
        raise ValueError("an array of objects, which is a pickle")
    wanted = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if wanted > size:
        raise ValueError("an array that is shorter than its header says")
    data = file.read(wanted)  # type: ignore[attr-defined]
    if len(data) != wanted:
        raise ValueError("an array that is cut off")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")


def _words(error: Exception) -> str:
    text = str(error).partition("\n")[0]
    return "an array of objects, which is a pickle" if "pickle" in text else text[:100]
