"""`FileSystemSource`: rows of local files, whichever of the four formats they have.

The files are listed and frozen when the source is made; a change afterwards is an error, found when they are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from corelane.core.config import validate_config
from corelane.core.errors import ConfigError, DataError
from corelane.data.batch import Batch, Cursor, Fingerprint
from corelane.data.config import FileSystemConfig
from corelane.data.source import iterate_rows, start_position
from corelane.data.sources.filesystem.csv_format import CsvReader
from corelane.data.sources.filesystem.files import FrozenFile, content_digest
from corelane.data.sources.filesystem.idx_format import IdxReader, is_idx
from corelane.data.sources.filesystem.images_format import ImagesReader
from corelane.data.sources.filesystem.parquet_format import ParquetReader
from corelane.data.sources.filesystem.reader import ConcatenatedReader, Reader

Format = Literal["csv", "parquet", "idx", "images"]

_SUFFIXES: Mapping[str, Format] = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "csv",
    ".tsv.gz": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


class FileSystemSource:
    """A `DataSource` over a CSV, Parquet or IDX file, a folder of CSV or Parquet files, or folders of images.

    A relative path counts from `base`. Raises `DataError` when the path is missing, empty or not what `format` says,
    `ConfigError` when `format: auto` cannot tell.
    """

    name = "filesystem"

    def __init__(self, config: FileSystemConfig, base: Path = Path()) -> None:
        path = base / config.path
        if not path.exists():
            raise DataError(
                f"data.source.path must be a file or folder, got {str(path)!r}: nothing there; check the path"
            )
        self._format = detect_format(path) if config.format == "auto" else config.format
        if config.labels is not None and self._format != "idx":
            raise ConfigError(f"labels must be given for IDX files only, got {config.labels!r} with {self._format}")
        if config.delimiter != "," and self._format != "csv":
            raise ConfigError(f"delimiter must be given for CSV only, got {config.delimiter!r} with {self._format}")
        self._delimiter = config.delimiter
        self._reader = _open_reader(self._format, path, base, config)
        self._fingerprint: Fingerprint | None = None

    @classmethod
    def get_iterator(cls, config: FileSystemConfig | Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The rows of the source that `config` describes, as dicts."""
        checked = config if isinstance(config, FileSystemConfig) else validate_config(config, FileSystemConfig)
        return iterate_rows(cls(checked))

    @property
    def is_local(self) -> bool:
        """Yes: files of this machine's disks, frozen when the source was made."""
        return True

    def schema(self) -> pa.Schema:
        """The physical columns: CSV all strings, Parquet as stored, IDX and image folders `image` and `label`."""
        return self._reader.schema()

    def fingerprint(self) -> Fingerprint:
        """SHA-256 over format, labels and the bytes of every file; computed once, in one sequential read."""
        if self._fingerprint is None:
            facts = [self._format, self._delimiter]
            if self._format == "images":
                facts += [f"{file.path.parent.name}/{file.path.name}" for file in self._reader.files]
            self._fingerprint = Fingerprint("content", content_digest(self._reader.files, *facts))
        return self._fingerprint

    def batches(self, start: Cursor | None = None) -> Iterator[Batch]:
        """Batches of at most `batch_rows` rows; see `DataSource.batches`."""
        fingerprint = self.fingerprint()
        for chunk in self._reader.read(start_position(start, self.name, fingerprint)):
            yield Batch(chunk.rows, chunk.first, Cursor(self.name, fingerprint.digest, chunk.end), chunk.broken)


def detect_format(path: Path) -> Format:
    """The format of `path` by its name, its first bytes, or what its folder holds. Raises `ConfigError` if unclear."""
    if path.is_dir():
        visible = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        found = {kind for entry in visible if entry.is_file() and (kind := _by_name(entry)) is not None}
        if any(entry.is_dir() for entry in visible):
            found.add("images")
        if len(found) == 1:
            return found.pop()
        raise ConfigError(
            f"data.source.format must be given for {path}: it must hold CSV files alone, or "
            "Parquet files, or folders of images"
        )
    named = _by_name(path)
    if named is not None:
        return named
    with FrozenFile.freeze(path, "data.source.path").open_content() as content:
        head = content.read(4)
    if is_idx(head):
        return "idx"
    if head == b"PAR1":
        return "parquet"
    raise ConfigError(f"data.source.format must be given for {path}: its name ends in none of {', '.join(_SUFFIXES)}")


def _by_name(path: Path) -> Format | None:
    return next((kind for suffix, kind in _SUFFIXES.items() if path.name.lower().endswith(suffix)), None)


def _open_reader(kind: Format, path: Path, base: Path, config: FileSystemConfig) -> Reader:
    if kind == "images":
        if not path.is_dir():
            raise DataError(f"data.source.path must be a folder with one folder per label, got the file {str(path)!r}")
        return ImagesReader(path, config.batch_rows)
    if kind == "idx":
        images = FrozenFile.freeze(path, "data.source.path")
        labels = None if config.labels is None else FrozenFile.freeze(base / config.labels, "data.source.labels")
        return IdxReader(images, labels, config.batch_rows)
    readers = [_open_table(kind, file, config) for file in _list_files(kind, path)]
    return readers[0] if len(readers) == 1 else ConcatenatedReader(readers)


def _open_table(kind: Format, path: Path, config: FileSystemConfig) -> Reader:
    file = FrozenFile.freeze(path, "data.source.path")
    if kind == "parquet":
        return ParquetReader(file, config.batch_rows)
    is_tabbed = config.delimiter == "," and path.name.lower().endswith((".tsv", ".tsv.gz"))
    return CsvReader(file, "\t" if is_tabbed else config.delimiter, config.batch_rows)


def _list_files(kind: Format, path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(entry for entry in path.iterdir() if _by_name(entry) == kind and not entry.name.startswith("."))
    if not files:
        raise DataError(f"data.source.path must be a {kind} file or a folder of such files, got none in {str(path)!r}")
    return files
