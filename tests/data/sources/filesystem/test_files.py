"""Frozen files: what was looked at is what is read, unpacked on the way, or an error says what happened."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from corelane.core.errors import DataError
from corelane.data.sources.filesystem.files import FrozenFile, content_digest

DATA = b"0123456789" * 1000
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: bytes(pa.compress(data, "zstd", asbytes=True)),
}


def frozen(path: Path, data: bytes) -> FrozenFile:
    path.write_bytes(data)
    return FrozenFile.freeze(path, "the file")


@pytest.mark.parametrize("packer", PACKERS)
def test_content_is_unpacked_and_bytes_are_not(tmp_path: Path, packer: str) -> None:
    """Whatever its name, by its first bytes."""
    file = frozen(tmp_path / "file", PACKERS[packer](DATA))
    with file.open_content() as content:
        assert content.read() == DATA
    with file.open() as raw:
        assert raw.read() == PACKERS[packer](DATA)
    assert file.is_packed() == (packer != "plain")
    assert file.is_gzipped() == (packer == "gzip")


@pytest.mark.parametrize("data", [b"", b"\x1f", b"B", b"\xfd7"])
def test_a_short_file_is_no_packed_one(tmp_path: Path, data: bytes) -> None:
    """Fewer bytes than a mark has are what they are."""
    with frozen(tmp_path / "file", data).open_content() as content:
        assert content.read() == data


@pytest.mark.parametrize("change", [b"0123456789" * 999, DATA + b"x", b"9876543210" * 1000])
def test_a_change_before_or_while_it_is_read_is_an_error(tmp_path: Path, change: bytes) -> None:
    """C13: shorter, longer, or other bytes at another time."""
    file = frozen(tmp_path / "file", DATA)

    def read_and_change() -> None:
        with file.open() as content:
            content.read(10)
            (tmp_path / "file").write_bytes(change)
            os.utime(tmp_path / "file", ns=(0, file.changed_ns + 1))

    for _ in range(2):
        with pytest.raises(DataError, match="must not change while it is read"):
            read_and_change()


@pytest.mark.parametrize(
    ("name", "words"), [("none", "No such file"), (".", "a directory"), ("pipe", "something else")]
)
def test_what_is_no_file_is_told(tmp_path: Path, name: str, words: str) -> None:
    """Nothing, a folder, a pipe."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=rf"the file must be a file, got .*{words}"):
        FrozenFile.freeze(tmp_path / name, "the file")


READ_AS_NOBODY = """
import os, sys
from pathlib import Path
from corelane.core.errors import DataError
from corelane.data.sources.filesystem.files import FrozenFile
file = FrozenFile.freeze(Path(sys.argv[1]), "the file")
if os.getuid() == 0:
    os.seteuid(65534)
try:
    with file.open():
        print("read")
except DataError as error:
    print(error)
"""


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    """C13: with its path, and to look at its owner."""
    (tmp_path / "file").write_bytes(DATA)
    (tmp_path / "file").chmod(0)
    done = subprocess.run(
        [sys.executable, "-c", READ_AS_NOBODY, str(tmp_path / "file")], capture_output=True, text=True, check=True
    )
    assert "must be a readable file: Permission denied; check the path and its owner" in done.stdout


def test_the_digest_is_that_of_facts_sizes_and_bytes(tmp_path: Path) -> None:
    """Two files are not one, nor is their order nothing."""
    a, b = frozen(tmp_path / "a", b"12"), frozen(tmp_path / "b", b"3")
    whole = frozen(tmp_path / "c", b"123")
    digests = {content_digest(files, "csv") for files in ([a, b], [b, a], [whole], [a])}
    assert len(digests) == 4
    assert content_digest([a], "csv") == content_digest([frozen(tmp_path / "d", b"12")], "csv")
    assert content_digest([a], "csv") != content_digest([a], "c", "sv")
