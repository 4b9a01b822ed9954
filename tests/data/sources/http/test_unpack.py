"""How far a download may unfold."""

from __future__ import annotations

import bz2
import gzip
import hashlib
from pathlib import Path

import pytest

from corelane.core.errors import DataError
from corelane.data.sources.http.unpack import check_unpacked, decode

DATA = bytes(range(256)) * 100


def unpack(folder: Path, packed: bytes, max_bytes: int = 1 << 30) -> tuple[str, bytes]:
    (folder / "packed").write_bytes(packed)
    digest = decode(folder / "packed", folder / "file", max_bytes=max_bytes, shown="https://h/")
    return digest, (folder / "file").read_bytes()


def test_a_packed_answer_becomes_what_it_holds(tmp_path: Path) -> None:
    """Several members too, with the digest of the whole."""
    packed = gzip.compress(DATA[:100]) + gzip.compress(DATA[100:])
    assert unpack(tmp_path, packed) == (hashlib.sha256(DATA).hexdigest(), DATA)


@pytest.mark.parametrize(
    "packed", [gzip.compress(DATA)[:-9], gzip.compress(DATA)[:50], b"\x1f\x8brubbish", DATA, b"\x1f"]
)
def test_a_damaged_one_is_told(tmp_path: Path, packed: bytes) -> None:
    """Cut, flipped or no gzip at all."""
    with pytest.raises(DataError, match="must be whole gzip"):
        unpack(tmp_path, packed)


def test_bounds_of_bytes_and_of_the_ratio(tmp_path: Path) -> None:
    """Nothing beyond the bound is written."""
    with pytest.raises(DataError, match="at most 1000 bytes"):
        unpack(tmp_path, gzip.compress(DATA), max_bytes=1000)
    with pytest.raises(DataError, match="if it is no bomb"):
        unpack(tmp_path, gzip.compress(bytes(50 << 20), 9))
    assert (tmp_path / "file").stat().st_size <= 50 << 20


def test_a_packed_file_is_measured(tmp_path: Path) -> None:
    """One that is not packed, or is empty, has nothing to measure."""
    for data in (b"", DATA):
        (tmp_path / "plain").write_bytes(data)
        check_unpacked(tmp_path / "plain", max_bytes=1, shown="https://h/")
    (tmp_path / "packed").write_bytes(bz2.compress(DATA))
    check_unpacked(tmp_path / "packed", max_bytes=len(DATA), shown="https://h/")
    with pytest.raises(DataError, match="must unpack to at most"):
        check_unpacked(tmp_path / "packed", max_bytes=len(DATA) - 1, shown="https://h/")
