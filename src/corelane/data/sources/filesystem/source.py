"""`FileSystemSource`: rows of files, whichever format they have, on local disks or wherever fsspec reaches.

Files are listed and frozen when the source is made; a change afterwards is an error, found when they are read. Remote
files are fetched to local disk first (`fetch.py`), so that every pass is local.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from corelane.core.config import validate_config
from corelane.core.errors import ConfigError, DataError
from corelane.data.batch import Batch, Cursor, Fingerprint
from corelane.data.config import FileSystemConfig
from corelane.data.source import Tell, iterate_rows, start_position, tell_nobody
from corelane.data.sources.filesystem.arrow_format import MAGIC, ArrowReader
from corelane.data.sources.filesystem.csv_format import CsvReader
from corelane.data.sources.filesystem.digests import kept_digest, stat_digest
from corelane.data.sources.filesystem.files import FrozenFile
from corelane.data.sources.filesystem.idx_format import IdxReader, is_idx
from corelane.data.sources.filesystem.images_format import ImagesReader
from corelane.data.sources.filesystem.jsonl_format import JsonLinesReader
from corelane.data.sources.filesystem.listing import candidates, check_root, has_wildcards, list_files, partitions_of
from corelane.data.sources.filesystem.npz_format import NpzReader
from corelane.data.sources.filesystem.parquet_format import ParquetReader
from corelane.data.sources.filesystem.reader import ConcatenatedReader, PartitionReader, Reader, ReadsColumns
from corelane.data.sources.plain import plain_rows
from corelane.store.hold import Hold
from corelane.store.tiers.disk import DiskTier, temporary_tier

Format = Literal["csv", "parquet", "arrow", "jsonl", "npz", "idx", "images"]

_SUFFIXES: Mapping[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".npz": "npz",
    ".npy": "npz",
    ".png": "images",
    ".jpg": "images",
    ".jpeg": "images",
    ".webp": "images",
    ".bmp": "images",
    ".gif": "images",
}
_READERS: Mapping[str, Callable[[FrozenFile, int], Reader]] = {
    "parquet": ParquetReader,
    "arrow": ArrowReader,
    "jsonl": JsonLinesReader,
    "npz": NpzReader,
}
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".lz4")
_LOOKED_AT = 1000  # files of a folder whose names decide its format


class FileSystemSource:
    """A `DataSource` over a file, the files of a folder or of a glob, or folders of images.

    A relative path counts from `base`. Remote files, and the digests of local ones, are kept in `cache`; without it
    remote files lie in a temporary folder that goes with the source. `tell` hears of skipped files and of fetching
    anew. Files are recognised by what is in them, or by path, size and time of change (`strength`). Raises `DataError`
    when the path is missing, empty or not what `format` says, `ConfigError` when `format: auto` cannot tell.
    """

    name = "filesystem"

    def __init__(
        self,
        config: FileSystemConfig,
        base: Path = Path(),
        *,
        cache: DiskTier | None = None,
        tell: Tell = tell_nobody,
        strength: Literal["content", "stat"] = "content",
    ) -> None:
        self._tell = tell
        self._strength = strength
        self._cache = cache
        self._base = base
        self._hold: Hold | None = None  # keeps fetched files in the cache for as long as the source lives
        self._root = None if config.root is None else base / config.root
        path = self._locate(config, cache)
        self._format = detect_format(path) if config.format == "auto" else config.format
        if config.labels is not None and self._format != "idx":
            raise ConfigError(f"labels must be given for IDX files only, got {config.labels!r} with {self._format}")
        if config.delimiter != "," and self._format != "csv":
            raise ConfigError(f"delimiter must be given for CSV only, got {config.delimiter!r} with {self._format}")
        self._delimiters: list[str] = []  # of each CSV file; not the configured one, which a .tsv file may differ from
        self._facts: list[str] = []
        self._reader = self._open_reader(path, config)
        self._fingerprint: Fingerprint | None = None

    @classmethod
    def get_iterator(cls, config: FileSystemConfig | Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The rows of the source that `config` describes, as dicts."""
        checked = config if isinstance(config, FileSystemConfig) else validate_config(config, FileSystemConfig)
        return iterate_rows(cls(checked))

    @property
    def is_local(self) -> bool:
        """Yes: files of this machine's disks, or fetched to them, frozen when the source was made."""
        return True

    def schema(self) -> pa.Schema:
        """The physical columns: CSV and JSON texts, IDX and image folders `image` and `label`, others as stored."""
        return self._reader.schema()

    def fingerprint(self) -> Fingerprint:
        """SHA-256 over format, delimiters, labels and the bytes of every file; computed once, in one sequential read.

        With a cache, files that nothing has touched since are not read for it again. Of strength `stat`, the files are
        not read at all.
        """
        if self._fingerprint is None:
            facts = [self._format, "".join(self._delimiters), *self._facts]
            if self._format == "images":
                facts += [f"{file.path.parent.name}/{file.path.name}" for file in self._reader.files]
            self._fingerprint = Fingerprint(self._strength, self._digest(facts))
        return self._fingerprint

    def _digest(self, facts: Sequence[str]) -> str:
        files = self._reader.files
        return stat_digest(files, facts) if self._strength == "stat" else kept_digest(files, facts, self._cache)

    def batches(self, start: Cursor | None = None) -> Iterator[Batch]:
        """Batches of at most `batch_rows` rows; see `DataSource.batches`."""
        schema = self.schema()
        for batch in self.encoded_batches(start):
            yield replace(batch, rows=plain_rows(batch.rows, schema))

    def encoded_batches(self, start: Cursor | None = None, columns: Collection[str] | None = None) -> Iterator[Batch]:
        """`batches`, but columns of texts that repeat may be dictionaries of them: what preparing reads faster.

        Where only some `columns` are asked for, others may be absent.
        """
        fingerprint = self.fingerprint()
        first = start_position(start, self.name, fingerprint)
        if columns is None or not isinstance(self._reader, ReadsColumns):
            chunks = self._reader.read(first)
        else:
            chunks = self._reader.read_columns(first, columns)
        for chunk in chunks:
            yield Batch(chunk.rows, chunk.first, Cursor(self.name, fingerprint.digest, chunk.end), chunk.broken)

    # --- opening ------------------------------------------------------------------------------------------------------

    def _locate(self, config: FileSystemConfig, cache: DiskTier | None) -> Path:
        """The local path: the configured one, or where its remote files were fetched to."""
        if "://" in config.path:
            return self._fetched(config, cache)
        path = self._base / config.path
        if not path.exists() and not has_wildcards(path):
            raise DataError(
                f"data.source.path must be a file or folder, got {str(path)!r}: nothing there; check the path"
            )
        if not has_wildcards(path):
            check_root(path, self._root)
        return path

    def _fetched(self, config: FileSystemConfig, cache: DiskTier | None) -> Path:
        from corelane.data.sources.filesystem.fetch import fetch  # noqa: PLC0415 - fsspec only where it is used

        if config.labels is not None:
            raise ConfigError("labels must be left out for remote files, got a label file; fetch both, then name them")
        folder, self._hold = fetch(config.path, config.storage_options, cache or temporary_tier(self), tell=self._tell)
        files = list(folder.iterdir())
        return files[0] if len(files) == 1 and files[0].is_file() else folder

    def _open_reader(self, path: Path, config: FileSystemConfig) -> Reader:
        if self._format == "images":
            if not path.is_dir():
                raise DataError(
                    f"data.source.path must be a folder with one folder per label, got the file {str(path)!r}"
                )
            return ImagesReader(path, config.batch_rows)
        if self._format == "idx":
            images = FrozenFile.freeze(path, "data.source.path")
            labels = (
                None if config.labels is None else FrozenFile.freeze(self._base / config.labels, "data.source.labels")
            )
            return IdxReader(images, labels, config.batch_rows)
        if not path.is_dir() and not has_wildcards(path):
            return self._open_table(path, config)
        return self._open_many(path, config)

    def _open_many(self, path: Path, config: FileSystemConfig) -> Reader:
        """The tables of a folder or a glob as one, with the columns that folders named `key=value` stand for."""
        files = list_files(path, self._root, is_wanted=lambda file: _by_name(file) == self._format, tell=self._tell)
        if not files:
            raise DataError(
                f"data.source.path must be a {self._format} file or a folder of such files, got none in {str(path)!r}"
            )
        readers = []
        for file in files:
            reader = self._open_table(file, config)
            values = partitions_of(file, path) if path.is_dir() else {}
            if values:
                self._facts.append(str(file.relative_to(path).parent))
                reader = PartitionReader(reader, values)
            readers.append(reader)
        return readers[0] if len(readers) == 1 else ConcatenatedReader(readers)

    def _open_table(self, path: Path, config: FileSystemConfig) -> Reader:
        file = FrozenFile.freeze(path, "data.source.path")
        if self._format == "csv":
            is_tabbed = config.delimiter == "," and _unpacked(path.name).endswith(".tsv")
            self._delimiters.append("\t" if is_tabbed else config.delimiter)
            return CsvReader(file, self._delimiters[-1], config.batch_rows)
        return _READERS[self._format](file, config.batch_rows)


def detect_format(path: Path) -> Format:
    """The format of `path` by its name, its first bytes, or the names in it. Raises `ConfigError` if unclear."""
    if path.is_dir() or has_wildcards(path):
        return _format_of_many(path)
    named = _by_name(path)
    if named is not None and named != "images":
        return named
    with FrozenFile.freeze(path, "data.source.path").open_content() as content:
        head = content.read(len(MAGIC))
    if is_idx(head[:4]):
        return "idx"
    if head[:4] == b"PAR1":
        return "parquet"
    if head == MAGIC:
        return "arrow"
    raise ConfigError(f"data.source.format must be given for {path}: its name ends in none of {', '.join(_SUFFIXES)}")


def _format_of_many(path: Path) -> Format:
    names = (_by_name(file) for file in candidates(path))
    found = {kind for kind in islice(names, _LOOKED_AT) if kind is not None}
    if not found and path.is_dir() and any(entry.is_dir() for entry in path.iterdir()):
        return "images"  # in files without the usual endings
    if len(found) == 1:
        return found.pop()
    raise ConfigError(
        f"data.source.format must be given for {path}: it must hold files of one format, got "
        f"{', '.join(sorted(found)) or 'none that is known'}"
    )


def _by_name(path: Path) -> Format | None:
    name = _unpacked(path.name)
    return next((kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix)), None)


def _unpacked(name: str) -> str:
    """A file's name in lower case without the ending of a compression."""
    lower = name.lower()
    return next((lower.removesuffix(ending) for ending in _PACKED if lower.endswith(ending)), lower)
