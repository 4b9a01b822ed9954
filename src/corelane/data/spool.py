"""The spool: a remote source copied once to local disk, so that every pass of preparing sees the same rows.

A database or an object store gives other rows the next time it is asked, or none. Local sources pass through. The copy
is an Arrow file in a locked temporary directory below the cache; it goes when preparing ends, and what a killed process
left is swept by the next.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa

from corelane.core.clock import Clock, SystemClock
from corelane.core.errors import DataError, SourceRestartError
from corelane.data.batch import Batch, BrokenRow, Cursor, Fingerprint
from corelane.data.digest import RowsDigest
from corelane.data.source import DataSource, Tell, start_position, tell_nobody
from corelane.machine.backoff import ExponentialBackoff
from corelane.store.durable import full_disk_reported, remove_temporaries, temporary_directory
from corelane.store.tiers.disk import DiskTier

FOLDER = "spool"  # below the cache directory
MAX_RESTARTS = 3  # of a read that cannot be continued
MAX_BROKEN_ROWS = 1_000_000  # kept in memory with their text; a source with more is not what its owner thinks it is

ARCHIVED = "spools"  # the kind of entry in an archive

_ROWS = "rows.arrow"


@runtime_checkable
class ReadsOnce(Protocol):
    """A source whose rows can be had without their fingerprint, for which they would be read twice."""

    def read_once(self) -> Iterator[pa.RecordBatch]:
        """All rows of one snapshot, in order. Raises `SourceRestartError` when what came must be discarded."""
        ...


@contextmanager
def spooled(
    source: DataSource,
    cache: DiskTier,
    *,
    tell: Tell = tell_nobody,
    clock: Clock | None = None,
) -> Iterator[DataSource]:
    """`source` itself when it is local, else a local copy of its rows that lasts as long as the context.

    A read that cannot be continued is discarded and begun anew, up to three times, and `tell` hears of it; so is one
    that a full disk ended, once, when entries of `cache` could go for it. The archive of `cache` keeps the copy by its
    digest. Raises what the source raises, and `DiskFullError`.
    """
    if source.is_local:
        yield source
        return
    remove_temporaries(cache.directory / FOLDER)
    with temporary_directory(cache.directory / FOLDER / source.name) as folder:
        backoff = ExponentialBackoff(MAX_RESTARTS, clock=clock or SystemClock())
        for attempt in backoff.attempts(on=SourceRestartError):
            if attempt.number > 1:
                tell("source_restarted", {"source": source.name, "attempt": attempt.number})
            with attempt:
                copy = cache.room.relieved(lambda: _copy(source, folder))
        tell("source_spooled", {"source": source.name, "num_rows": copy.num_rows, "num_bytes": copy.num_bytes})
        cache.archive.keep_files(ARCHIVED, copy.fingerprint().digest, ARCHIVED, {_ROWS: folder / _ROWS})
        yield copy


class SpooledSource:
    """A `DataSource` over the copy; `spooled` makes it."""

    def __init__(
        self,
        name: str,
        path: Path,
        schema: pa.Schema,
        fingerprint: Fingerprint,
        ends: list[int],
        broken: tuple[BrokenRow, ...],
    ) -> None:
        self.name = name
        self.num_rows = ends[-1] if ends else 0
        self.num_bytes = path.stat().st_size
        self._path = path
        self._schema = schema
        self._fingerprint = fingerprint
        self._ends = ends
        self._broken = broken

    @property
    def is_local(self) -> bool:
        """Yes: that is what it is for."""
        return True

    def schema(self) -> pa.Schema:
        """The columns of the source."""
        return self._schema

    def fingerprint(self) -> Fingerprint:
        """The digest of all rows."""
        return self._fingerprint

    def batches(self, start: Cursor | None = None) -> Iterator[Batch]:
        """The batches as the source gave them; see `DataSource.batches`."""
        first = start_position(start, self.name, self._fingerprint)
        begin = 0
        with pa.memory_map(str(self._path)) as file, pa.ipc.open_file(file) as reader:
            for index, end in enumerate(self._ends):
                if end > first:
                    broken = tuple(row for row in self._broken if max(begin, first) <= row.position < end)
                    num_skipped = max(0, first - begin - self._num_broken(begin, first))
                    rows = reader.get_batch(index).slice(num_skipped)
                    yield Batch(rows, max(begin, first), Cursor(self.name, self._fingerprint.digest, end), broken)
                begin = end

    def _num_broken(self, begin: int, end: int) -> int:
        return sum(begin <= row.position < end for row in self._broken)


def _copy(source: DataSource, folder: Path) -> SpooledSource:
    schema = source.schema()
    digest, ends = RowsDigest(schema), [0]
    broken: list[BrokenRow] = []
    path = folder / _ROWS
    with full_disk_reported(path), pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for rows, end, unread in _rows_of(source):
            writer.write_batch(rows)
            digest.update(rows)
            ends.append(end)
            broken.extend(unread)
            if len(broken) > MAX_BROKEN_ROWS:
                raise DataError(
                    f"the source must have at most {MAX_BROKEN_ROWS} rows that cannot be read, got more; check it"
                )
    fingerprint = Fingerprint("content", _with_broken(digest.hexdigest(), broken))
    return SpooledSource(source.name, path, schema, fingerprint, ends[1:], tuple(broken))


def _rows_of(source: DataSource) -> Iterator[tuple[pa.RecordBatch, int, tuple[BrokenRow, ...]]]:
    """Rows, the position behind them, and those among them that could not be read."""
    if isinstance(source, ReadsOnce):
        end = 0
        for rows in source.read_once():
            end += rows.num_rows
            yield rows, end, ()
        return
    for batch in source.batches():
        yield batch.rows, batch.next_cursor.position, batch.broken


def _with_broken(digest: str, broken: list[BrokenRow]) -> str:
    if not broken:
        return digest
    text = json.dumps([digest, [asdict(row) for row in broken]])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
