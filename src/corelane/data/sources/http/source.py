"""`HTTPSource`: a URL as a source of rows. It is downloaded whole at the first use and read as a local file.

What was downloaded is kept with the version that the server gave it, and at the next run asked for only if it changed.
Called through `DataSourceManager` and by `app`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from corelane.core.clock import Clock, SystemClock
from corelane.core.config import validate_config
from corelane.core.errors import DataError
from corelane.data.batch import Batch, Cursor, Fingerprint
from corelane.data.config import FileSystemConfig, HTTPConfig, PagingConfig
from corelane.data.source import Tell, iterate_rows, tell_nobody
from corelane.data.sources.filesystem.source import FileSystemSource
from corelane.data.sources.http.address import Resolve, resolve
from corelane.data.sources.http.download import Download
from corelane.data.sources.http.exchange import Exchange
from corelane.data.sources.http.kept import FOLDER, Kept, KeptFile
from corelane.data.sources.http.paging import Pages
from corelane.data.sources.http.target import Target
from corelane.data.sources.http.unpack import check_unpacked, decode
from corelane.store.durable import full_disk_reported, remove_temporaries, temporary_directory
from corelane.store.tiers.disk import DiskTier, temporary_tier

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class HTTPSource:
    """A `DataSource` over the file, or the pages, that `config` names.

    Downloads are kept in `cache`, or in a temporary folder that goes with the source. Making it connects to
    nothing. Raises, when read: `ConfigError` for a URL or headers that cannot be, `DataError` for an answer that will
    not get better, `SourceReadError` when the retries are used up, `DiskFullError`.
    """

    name = "http"

    def __init__(
        self,
        config: HTTPConfig,
        *,
        cache: DiskTier | None = None,
        clock: Clock | None = None,
        tell: Tell = tell_nobody,
        lookup: Resolve = resolve,
    ) -> None:
        self._config = config
        self._clock = clock or SystemClock()
        self._tell = tell
        self._lookup = lookup
        self._cache = cache or temporary_tier(self)
        self._downloads = self._cache.directory / FOLDER
        self._lock = Lock()
        self._file: FileSystemSource | None = None
        self._kept: KeptFile | None = None  # holds the file in the cache for as long as the source lives

    @classmethod
    def get_iterator(cls, config: HTTPConfig | Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The rows that `config` names, as dicts."""
        checked = config if isinstance(config, HTTPConfig) else validate_config(config, HTTPConfig)
        return iterate_rows(cls(checked))

    @property
    def is_local(self) -> bool:
        """Yes: what is read is the downloaded file."""
        return True

    def schema(self) -> pa.Schema:
        """The columns of the file."""
        return self._local().schema()

    def fingerprint(self) -> Fingerprint:
        """The digest of the file's content."""
        return self._local().fingerprint()

    def batches(self, start: Cursor | None = None) -> Iterator[Batch]:
        """Batches of at most `batch_rows` rows; see `DataSource.batches`."""
        digest = self.fingerprint().digest
        inner = None if start is None else Cursor(_inner_name(start.source), start.fingerprint, start.position)
        for batch in self._local().batches(inner):
            yield Batch(
                batch.rows, batch.first_position, Cursor(self.name, digest, batch.next_cursor.position), batch.broken
            )

    def _local(self) -> FileSystemSource:
        """The downloaded file. Whoever comes meanwhile, in another thread, waits: all read the same content."""
        with self._lock:
            if self._file is None:
                self._kept = self._downloaded()
                self._file = self._opened(self._kept.path)
            return self._file

    def _opened(self, path: Path) -> FileSystemSource:
        config = self._config
        return FileSystemSource(
            FileSystemConfig(
                path=str(path),
                format=config.format if config.paging is None else "jsonl",
                delimiter=config.delimiter,
                batch_rows=config.batch_rows,
            ),
            cache=self._cache,
        )

    # --- downloading --------------------------------------------------------------------------------------------------

    def _downloaded(self) -> KeptFile:
        """The file of the kept download when the server says it is the newest, else of a new one."""
        kept = Kept(self._cache, self._config, clock=self._clock)
        remove_temporaries(self._downloads)
        return self._cache.room.relieved(lambda: self._fetched(kept))

    def _fetched(self, kept: Kept) -> KeptFile:
        if self._config.paging is not None:
            return self._fetch_pages(kept, self._config.paging)
        with full_disk_reported(self._downloads), kept.alone(self._config.total_timeout_s):
            return self._fetch_file(kept)

    def _fetch_pages(self, kept: Kept, paging: PagingConfig) -> KeptFile:
        with self._exchange() as exchange, self._folder(kept) as folder:
            file = folder / "pages.jsonl"
            pages = Pages(self._config, paging, exchange, clock=self._clock, tell=self._tell)
            digest = pages.write(file)
            self._check_digest(digest)
            return kept.keep(file, None, (digest,))

    def _fetch_file(self, kept: Kept) -> KeptFile:
        newest = kept.newest(self._config.sha256)
        with self._exchange() as exchange, self._folder(kept) as folder:
            shown = exchange.target.shown
            file = folder / _file_name(exchange.target)
            download = Download(self._config, exchange, file, clock=self._clock, tell=self._tell)
            validators = download.run(None if newest is None else newest[1])
            if newest is not None and validators is None:
                return newest[0]
            digests: tuple[str, ...] = (download.sha256,)
            if download.encoding == "gzip":
                packed = file.rename(folder / "packed")
                digests += (decode(packed, file, max_bytes=self._config.max_bytes, shown=shown),)
            self._check_digest(*digests)
            check_unpacked(file, max_bytes=self._config.max_bytes, shown=shown)
            self._tell("source_downloaded", {"source": shown, "num_bytes": file.stat().st_size})
            return kept.keep(file, validators, digests)

    def _exchange(self) -> closing[Exchange]:
        return closing(Exchange(self._config, clock=self._clock, tell=self._tell, lookup=self._lookup))

    @contextmanager
    def _folder(self, kept: Kept) -> Iterator[Path]:
        """A temporary folder for what is being downloaded."""
        with full_disk_reported(self._downloads), temporary_directory(self._downloads / kept.key) as folder:
            yield folder

    def _check_digest(self, *digests: str) -> None:
        """The configured digest may be that of the bytes as they were sent, or of what they unpack to."""
        if self._config.sha256 not in (None, *digests):
            raise DataError(
                f"{Target.parse(self._config.url).shown} must have the digest of data.source.sha256, got "
                f"{' unpacked to '.join(digests)}; check both"
            )


def _file_name(target: Target) -> str:
    """The last part of the URL's path as a plain file name: its ending may tell the format."""
    name = unquote(target.path.partition("?")[0].rpartition("/")[2])
    return _UNSAFE.sub("_", name)[-100:].lstrip(".") or "download"


def _inner_name(source: str) -> str:
    return FileSystemSource.name if source == HTTPSource.name else source
