"""IDX: headers believed only after they are checked, values of every type, files that do not fit each other."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from corelane.core.errors import ConfigError, DataError
from corelane.data.config import FileSystemConfig
from corelane.data.sources.filesystem.source import FileSystemSource
from tests.capabilities import FASHION_MNIST

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def _idx(values: np.ndarray, code: str = "u1") -> bytes:  # type: ignore[type-arg]
    header = struct.pack(f">HBB{values.ndim}I", 0, CODES[code], values.ndim, *values.shape)
    return header + values.astype(f">{code}").tobytes()


IMAGES = np.arange(60).reshape(10, 2, 3)
LABELS = np.arange(10)


def _source(folder: Path, images: bytes, labels: bytes | None = None, batch_rows: int = 4) -> FileSystemSource:
    (folder / "images").write_bytes(images)
    if labels is not None:
        (folder / "labels").write_bytes(labels)
    config = FileSystemConfig(path="images", labels=None if labels is None else "labels", batch_rows=batch_rows)
    return FileSystemSource(config, folder)


def _read(source: FileSystemSource) -> tuple[np.ndarray, list[int]]:  # type: ignore[type-arg]
    batches = list(source.batches())
    images = np.concatenate([batch.rows.column("image").to_numpy_ndarray() for batch in batches])
    return images, [label for batch in batches for label in batch.rows.column("label").to_pylist()]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("is_packed", [False, True])
def test_values_of_every_type_packed_or_not(tmp_path: Path, code: str, is_packed: bool) -> None:
    """All six types of the format come out in native byte order with their shape and their labels."""
    data = [_idx(IMAGES, code), _idx(LABELS)]
    images, labels = _read(_source(tmp_path, *(map(gzip.compress, data) if is_packed else data)))
    assert images.dtype == np.dtype(code)
    assert np.array_equal(images, IMAGES)
    assert labels == LABELS.tolist()


def test_images_without_labels_and_vectors(tmp_path: Path) -> None:
    """Labels may be absent (for prediction), and rows may be vectors."""
    (batch,) = _source(tmp_path, _idx(IMAGES.reshape(10, 6)), batch_rows=100).batches()
    assert batch.rows.schema.names == ["image"]
    assert np.array_equal(batch.rows.column("image").to_numpy_ndarray(), IMAGES.reshape(10, 6))


WHOLE = _idx(IMAGES)
HUGE = struct.pack(">HBBIII", 0, 8, 3, 2**32 - 1, 28, 28)
WIDE = struct.pack(">HBBIII", 0, 8, 3, 1, 2**31, 2**31)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (WHOLE[:-1], _idx(LABELS), "must have 76 bytes"),
        (WHOLE + b"x", _idx(LABELS), "must have 76 bytes, .* got 77"),
        (HUGE + bytes(784), _idx(LABELS), r"4294967295 rows of shape \(28, 28\)"),
        (gzip.compress(HUGE + bytes(784)), None, "got fewer"),
        (WIDE, None, "one row of .* must have 1 to"),
        (gzip.compress(WIDE), None, "one row of .* must have 1 to"),
        (_idx(np.zeros((3, 0, 5))), None, "one row of .* must have 1 to"),
        (gzip.compress(WHOLE + b"x"), gzip.compress(_idx(LABELS)), "got more"),
        (gzip.compress(WHOLE[:-1]), gzip.compress(_idx(LABELS)), "got fewer"),
        (gzip.compress(WHOLE)[:-9], gzip.compress(_idx(LABELS)), "whole packed file"),
        (WHOLE[:10], None, "got fewer"),
        (WHOLE, _idx(LABELS[:9]), "must hold 10 labels, .* got 9"),
        (_idx(LABELS), WHOLE, "must hold images"),
        (WHOLE, WHOLE, "must hold one label a row"),
        (WHOLE, b"\0\0\x07\x01", "must be an IDX file"),
        (WHOLE, b"", "must be an IDX file"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, images: bytes, labels: bytes | None, words: str) -> None:
    """Sizes, types and numbers of rows that contradict each other are named, and nothing large is allocated first."""
    with pytest.raises(DataError, match=words):
        list(_source(tmp_path, images, labels).batches())


def test_an_unknown_file_needs_its_format_named(tmp_path: Path) -> None:
    """A file that is nothing we know is a `ConfigError` under `auto`, a `DataError` when it was called IDX."""
    with pytest.raises(ConfigError, match="format must be given"):
        _source(tmp_path, b"something else")
    with pytest.raises(DataError, match="must be an IDX file, got the first bytes b'some'"):
        FileSystemSource(FileSystemConfig(path="images", format="idx"), tmp_path)


@pytest.mark.needs("fashion-mnist")
def test_fashion_mnist_reads_whole() -> None:
    """The packaged files are read: 10,000 test images of 28 x 28, a thousand of each label."""
    files = [str(FASHION_MNIST / f"t10k-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1")]
    images, labels = _read(FileSystemSource(FileSystemConfig(path=files[0], labels=files[1])))
    assert images.shape == (10_000, 28, 28)
    assert np.bincount(labels).tolist() == [1000] * 10
