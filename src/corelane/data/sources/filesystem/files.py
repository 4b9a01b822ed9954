"""Files as they were when a source was made: their listing, sizes and times are frozen, and a change is an error.

Readers open files only through `FrozenFile`, so that a file replaced, cut or grown in the middle of preparing data is
noticed and never mixed into it. Packing is undone here, so every format reads packed files the same way.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from corelane.core.errors import DataError, SourceReadError

_GZIP_MAGIC = b"\x1f\x8b"
_MAGIC_BYTES = 6
_CHUNK_BYTES = 1 << 20


def _unpack_with_arrow(codec: str) -> Callable[[BinaryIO], Any]:
    def unpack(file: BinaryIO) -> Any:
        own = io.FileIO(os.dup(file.fileno()))  # Arrow closes what it reads from
        own.seek(0)
        return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(own, mode="r"), codec), _CHUNK_BYTES)

    return unpack


_PACKERS: Mapping[bytes, Callable[[BinaryIO], Any]] = {
    _GZIP_MAGIC: lambda file: gzip.GzipFile(fileobj=file, mode="rb"),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": _unpack_with_arrow("zstd"),
    b"\x04\x22\x4d\x18": _unpack_with_arrow("lz4"),
}
"""How a file is unpacked that begins with these bytes."""


@dataclass(frozen=True, slots=True)
class FrozenFile:
    """A regular file and the size in bytes and time of change (ns) it had when it was frozen."""

    path: Path
    size: int
    changed_ns: int

    @classmethod
    def freeze(cls, path: Path, what: str) -> FrozenFile:
        """Look at `path`. Raises `DataError`, in which `what` says what it is for, when it is no readable file."""
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{what} must be a file, got {str(path)!r}: {error.strerror}; check the path") from error
        if not path.is_file():
            kind = "a directory" if path.is_dir() else "something else"
            raise DataError(f"{what} must be a file, got {kind}: {str(path)!r}; name the file itself")
        return cls(path, status.st_size, status.st_mtime_ns)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The raw bytes. Raises `DataError` when the file is gone or changed, at opening or meanwhile."""
        # Without blocking: a pipe put in the file's place would otherwise hang the open.
        with read_errors(self.path), open(self.path, "rb", opener=_open_without_blocking) as file:
            self._check(os.fstat(file.fileno()))
            yield file
            self._check(os.fstat(file.fileno()))

    @contextmanager
    def open_content(self) -> Iterator[BinaryIO]:
        """The bytes, unpacked when the file is packed (gzip, bzip2, xz, Zstandard or LZ4, by its first bytes).

        A cut or damaged packed file raises `DataError` when read.
        """
        with self.open() as file:
            head = file.read(_MAGIC_BYTES)
            file.seek(0)
            unpack = next((unpack for magic, unpack in _PACKERS.items() if head.startswith(magic)), None)
            if unpack is None:
                yield file
                return
            with unpack(file) as unpacked:
                yield cast(BinaryIO, unpacked)

    def is_packed(self) -> bool:
        """Whether the content is packed, going by its first bytes."""
        with self.open() as file:
            return file.read(_MAGIC_BYTES).startswith(tuple(_PACKERS))

    def is_gzipped(self) -> bool:
        """Whether the content is packed, going by the first two bytes."""
        with self.open() as file:
            return file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC

    def _check(self, status: os.stat_result) -> None:
        if (status.st_size, status.st_mtime_ns) != (self.size, self.changed_ns):
            raise DataError(
                f"{self.path} must not change while it is read, but it did; start again when it is complete"
            )


def _open_without_blocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def content_digest(files: Sequence[FrozenFile], *facts: str) -> str:
    """SHA-256 (hex) over `facts` and every file's size and bytes, in order."""
    digest = hashlib.sha256()
    for fact in facts:
        digest.update(f"{len(fact)}:{fact};".encode("utf-8", "surrogateescape"))
    for frozen in files:
        digest.update(f"{frozen.size}:".encode())
        with frozen.open() as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Say in our words what went wrong with `path`: damaged gzip and missing files need the user, the rest may pass."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path} must be a whole packed file, got a cut or damaged one; fetch it again") from error
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise DataError(f"{path} must be a readable file: {error.strerror}; check the path and its owner") from error
    except OSError as error:
        if error.errno is None:  # a codec's complaint, not the system's
            raise DataError(f"{path} must be a whole packed file, got a damaged one; fetch it again") from error
        raise SourceReadError(f"{path} must be readable, got {error.strerror or error}; try again") from error
