"""`HTTPSource`: a URL as a source of rows. It is downloaded whole at the first use and read as a local file.

What was downloaded is kept with the version that the server gave it, and at the next run asked for only if it changed.
Called through `DataSourceManager` and by `app`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from corelane.core.clock import Clock, SystemClock
from corelane.core.config import validate_config
from corelane.core.errors import BundleError, DataError
from corelane.data.batch import Batch, Cursor, Fingerprint
from corelane.data.config import FileSystemConfig, HTTPConfig
from corelane.data.source import Tell, iterate_rows, tell_nobody
from corelane.data.sources.filesystem.files import FrozenFile
from corelane.data.sources.filesystem.source import FileSystemSource
from corelane.data.sources.http.address import Resolve, resolve
from corelane.data.sources.http.download import Download, Validators
from corelane.data.sources.http.exchange import Exchange, shown
from corelane.data.sources.http.paging import Pages
from corelane.store.bundle import verify_bundle, write_atomic
from corelane.store.durable import full_disk_reported, remove_temporaries, temporary_directory
from corelane.store.entry import open_or_build

KIND = "download"
MAX_RATIO = 1000  # unpacked to packed: Deflate itself cannot do more than 1,032
_UNPACK_BYTES = 1 << 20
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class HTTPSource:
    """A `DataSource` over the file, or the pages, that `config` names.

    Downloads are kept below `downloads`, or in a temporary folder that goes with the source. Making it connects to
    nothing. Raises, when read: `ConfigError` for a URL or headers that cannot be, `DataError` for an answer that will
    not get better, `SourceReadError` when the retries are used up, `DiskFullError`.
    """

    name = "http"

    def __init__(
        self,
        config: HTTPConfig,
        *,
        downloads: Path | None = None,
        clock: Clock | None = None,
        tell: Tell = tell_nobody,
        lookup: Resolve = resolve,
    ) -> None:
        self._config = config
        self._clock = clock or SystemClock()
        self._tell = tell
        self._lookup = lookup
        if downloads is None:
            downloads = Path(tempfile.mkdtemp(prefix="corelane-http-"))
            weakref.finalize(self, shutil.rmtree, downloads, ignore_errors=True)
        self._downloads = downloads
        self._file: FileSystemSource | None = None

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
        if self._file is None:
            config = self._config
            path = self._downloaded()
            is_paged = config.paging is not None
            self._file = FileSystemSource(
                FileSystemConfig(
                    path=str(path),
                    format="jsonl" if is_paged else config.format,
                    delimiter=config.delimiter,
                    batch_rows=config.batch_rows,
                )
            )
        return self._file

    # --- downloading --------------------------------------------------------------------------------------------------

    def _downloaded(self) -> Path:
        """The file of the kept download when the server says it is the newest, else of a new one."""
        kept = self._kept()
        remove_temporaries(self._downloads)
        exchange = Exchange(self._config, clock=self._clock, tell=self._tell, lookup=self._lookup)
        with closing(exchange), temporary_directory(self._downloads / self._key) as folder, full_disk_reported(folder):
            target = folder / self._file_name()
            if self._config.paging is not None:
                Pages(self._config, self._config.paging, exchange, clock=self._clock, tell=self._tell).write(target)
                return self._publish(target, None)
            download = Download(self._config, exchange, target, clock=self._clock, tell=self._tell)
            validators = download.run(kept[1] if kept is not None else None)
            if validators is None and kept is not None:
                return kept[0]
            self._check_unpacked(target)
            return self._publish(target, validators)

    def _kept(self) -> tuple[Path, Validators] | None:
        """The file of an earlier download and its version, if it is there, whole and of the configured digest."""
        try:
            note = json.loads(self._note.read_bytes())
            bundle = verify_bundle(self._downloads / str(note["entry"]), KIND)
            (name,) = bundle.files
            if self._config.sha256 not in (None, bundle.files[name].sha256):
                return None
            validators = Validators(note["etag"], note["last_modified"])
        except BundleError as error:
            self._tell("cache_entry_broken", {"reason": error.message})
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return bundle.path / name, validators

    def _publish(self, target: Path, validators: Validators | None) -> Path:
        with target.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        entry = f"{self._key}-{digest[:32]}"
        open_or_build(
            self._downloads / entry,
            KIND,
            lambda folder: _move(target, folder),
            on_broken=lambda error: self._tell("cache_entry_broken", {"reason": error.message}),
        )
        if validators is not None and validators.conditions:
            note = {"version": 1, "entry": entry, **asdict(validators)}
            write_atomic(self._note, json.dumps(note).encode())
        return self._downloads / entry / target.name

    def _check_unpacked(self, target: Path) -> None:
        """Raise `DataError` when the file is packed and unfolds beyond what is allowed."""
        packed = FrozenFile.freeze(target, "the download")
        if packed.size == 0:
            return
        most = min(self._config.max_bytes, packed.size * MAX_RATIO)
        with packed.open_content() as content:
            if not packed.is_packed():
                return
            size = 0
            while piece := content.read(_UNPACK_BYTES):
                size += len(piece)
                if size > most:
                    raise DataError(
                        f"{shown(self._config.url)} must unpack to at most {most} bytes, got more; "
                        "raise data.source.max_bytes if it is no bomb"
                    )

    @property
    def _key(self) -> str:
        config = self._config
        facts = [config.url, None if config.paging is None else config.paging.model_dump()]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]

    @property
    def _note(self) -> Path:
        return self._downloads / f"{self._key}.json"

    def _file_name(self) -> str:
        """The last part of the URL's path as a plain file name: its ending may tell the format."""
        name = unquote(urlsplit(self._config.url).path.rpartition("/")[2])
        return _UNSAFE.sub("_", name)[-100:].lstrip(".") or "download"


def _move(file: Path, folder: Path) -> None:
    file.rename(folder / file.name)


def _inner_name(source: str) -> str:
    return FileSystemSource.name if source == HTTPSource.name else source
