"""How far a download may unfold: an answer's encoding is undone, a packed file measured; bombs end at a bound."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

from corelane.core.errors import DataError
from corelane.data.sources.filesystem.files import FrozenFile

MAX_RATIO = 1000  # unpacked to packed: Deflate itself cannot do more than 1,032
_CHUNK_BYTES = 1 << 20


def decode(packed: Path, target: Path, *, max_bytes: int, shown: str) -> str:
    """Unpack the gzip file `packed` into `target`; the SHA-256 (hex) of what it holds.

    Raises `DataError` for a cut or damaged file, and for one that unfolds beyond `max_bytes` or `MAX_RATIO`.
    """
    most = min(max_bytes, packed.stat().st_size * MAX_RATIO)
    digest, size = hashlib.sha256(), 0
    try:
        with gzip.open(packed) as content, target.open("wb") as file:
            while piece := content.read(_CHUNK_BYTES):
                size += len(piece)
                _check(size, most, shown)
                digest.update(piece)
                file.write(piece)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{shown} must be whole gzip, got cut or damaged data; fetch it again") from error
    return digest.hexdigest()


def check_unpacked(path: Path, *, max_bytes: int, shown: str) -> None:
    """Raise `DataError` when the file is packed and unfolds beyond `max_bytes` or `MAX_RATIO`."""
    packed = FrozenFile.freeze(path, "the download")
    if packed.size == 0 or not packed.is_packed():
        return
    most = min(max_bytes, packed.size * MAX_RATIO)
    size = 0
    with packed.open_content() as content:
        while piece := content.read(_CHUNK_BYTES):
            size += len(piece)
            _check(size, most, shown)


def _check(size: int, most: int, shown: str) -> None:
    if size > most:
        raise DataError(
            f"{shown} must unpack to at most {most} bytes, got more; raise data.source.max_bytes if it is no bomb"
        )
