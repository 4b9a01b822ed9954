"""Folders of images: one folder per label, the encoded files inside it. Decoding, and rejecting what is no image, comes
later in the pipeline. Hidden files and folders, and files beside the label folders, are not rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from corelane.core.errors import DataError
from corelane.data.batch import BrokenRow
from corelane.data.sources.filesystem.files import FrozenFile
from corelane.data.sources.filesystem.reader import MAX_BATCH_BYTES, Chunk

_MAX_FILE_BYTES = MAX_BATCH_BYTES  # no photograph is larger; a disk image left in the folder is
_SCHEMA = pa.schema([("image", pa.binary()), ("label", pa.string())])


class ImagesReader:
    """Rows `image` (encoded bytes) and `label` (folder name), by label and then file name in code point order."""

    def __init__(self, root: Path, batch_rows: int) -> None:
        self._root = root
        self._batch_rows = batch_rows
        self.files = tuple(FrozenFile.freeze(path, "an image") for path in _list_images(root))
        self._labels = [file.path.parent.name for file in self.files]

    def schema(self) -> pa.Schema:
        """Encoded bytes and label."""
        return _SCHEMA

    def read(self, start: int) -> Iterator[Chunk]:
        """Chunks of at most `batch_rows` rows, and about `MAX_BATCH_BYTES`, from row `start` on."""
        first = start
        while first < len(self.files):
            chunk = self._read_chunk(first)
            yield chunk
            first = chunk.end

    def _read_chunk(self, first: int) -> Chunk:
        images, labels, broken, num_bytes, end = [], [], [], 0, first
        while end < len(self.files) and end - first < self._batch_rows and num_bytes < MAX_BATCH_BYTES:
            file = self.files[end]
            if file.size > _MAX_FILE_BYTES:
                reason = f"an image file must have at most {_MAX_FILE_BYTES} bytes, got {file.size}"
                broken.append(BrokenRow(end, reason, str(file.path)))
            else:
                with file.open() as content:
                    images.append(content.read())
                labels.append(self._labels[end])
                num_bytes += file.size
            end += 1
        columns = [pa.array(images, pa.binary()), pa.array(labels, pa.string())]
        return Chunk(pa.RecordBatch.from_arrays(columns, schema=_SCHEMA), first, end, tuple(broken))


def _list_images(root: Path) -> list[Path]:
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    images = []
    for folder in folders:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        nested = next((path for path in paths if path.is_dir()), None)
        if nested is not None:
            raise DataError(f"the label folder {folder} must hold files only, got the folder {nested.name!r}; move it")
        images += paths
        _check_label(folder)
    if not images:
        raise DataError(f"{root} must hold one folder of images per label, got none; put the images into such folders")
    return images


def _check_label(folder: Path) -> None:
    try:
        folder.name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the name of a label folder must be UTF-8, got {folder.name!r}; rename it") from error
