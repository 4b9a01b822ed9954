"""Folders of images: the label is the folder, the order is by name, decoding is somebody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from corelane.core.errors import DataError
from corelane.data.config import FileSystemConfig
from corelane.data.sources.filesystem.reader import MAX_BATCH_BYTES
from corelane.data.sources.filesystem.source import FileSystemSource


def _source(folder: Path, files: dict[str, bytes], **config: int) -> FileSystemSource:
    for name, content in files.items():
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return FileSystemSource(FileSystemConfig(path="images", **config), folder)  # type: ignore[arg-type]


def _rows(source: FileSystemSource) -> list[tuple[bytes, str]]:
    return [(row["image"], row["label"]) for batch in source.batches() for row in batch.rows.to_pylist()]


def test_label_is_the_folder_and_order_is_by_name(tmp_path: Path) -> None:
    """Rows come by label, then file name; hidden and loose files are no rows; what is no image is not judged here."""
    files = {"dog/b.png": b"3", "cat/2.png": b"1", "cat/10.png": b"0", "dog/a.txt": b"2", "cat/.hidden": b"x"}
    source = _source(tmp_path, {**files, ".git/x": b"x", "README": b"x"})
    assert _rows(source) == [(b"0", "cat"), (b"1", "cat"), (b"2", "dog"), (b"3", "dog")]


def test_the_listing_is_frozen_when_the_source_is_made(tmp_path: Path) -> None:
    """A file added later is not read; one that is gone or changed is an error that names it."""
    source = _source(tmp_path, {"a/1": b"one", "a/2": b"two"})
    (tmp_path / "images/a/0").write_bytes(b"late")
    assert _rows(source) == [(b"one", "a"), (b"two", "a")]
    (tmp_path / "images/a/2").write_bytes(b"three")
    with pytest.raises(DataError, match="a/2 must not change"):
        _rows(source)
    (tmp_path / "images/a/2").unlink()
    with pytest.raises(DataError, match="a/2 must be a readable file"):
        _rows(source)


def test_names_and_labels_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    """The same bytes under another label or name are other data."""
    prints = set()
    for index, name in enumerate(["a/1", "b/1", "a/2"]):
        (tmp_path / str(index)).mkdir()
        prints.add(_source(tmp_path / str(index), {name: b"x"}).fingerprint().digest)
    assert len(prints) == 3


def test_batches_are_bounded_in_bytes(tmp_path: Path) -> None:
    """Large files make smaller batches, and a file larger than any image is a broken row that is never read."""
    files = {f"a/{index}": b"" for index in range(5)}
    source = _source(tmp_path, files)
    for index, size in enumerate([MAX_BATCH_BYTES, 1, MAX_BATCH_BYTES + 1, MAX_BATCH_BYTES, 1]):
        with (tmp_path / "images" / "a" / str(index)).open("wb") as file:
            file.truncate(size)
    source = _source(tmp_path, {})
    batches = list(source.batches())
    assert [batch.positions.tolist() for batch in batches] == [[0], [1, 3], [4]]
    assert [row.position for batch in batches for row in batch.broken] == [2]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a/.hidden": b""}, "one folder of images per label, got none"),
        ({"a/deeper/1.png": b""}, "must hold files only, got the folder 'deeper'"),
    ],
)
def test_folders_that_hold_no_images_are_refused(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    """A layout that is not understood is an error, not an empty data set."""
    with pytest.raises(DataError, match=words):
        _source(tmp_path, files)
