"""`DatabaseSource`: a table or a query as a source of rows, read in one snapshot and in the order of a key.

A lost connection takes its snapshot with it. With a key that the configuration declares, reading goes on behind the
last key; without one, nobody could tell which rows had been seen, so the read breaks off and whoever wants the rows
starts again (`data/spool.py` does). Called through `DataSourceManager` and by `app`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from corelane.core.clock import Clock, SystemClock
from corelane.core.config import validate_config
from corelane.core.errors import CursorError, DataError, SourceReadError, SourceRestartError
from corelane.data.batch import Batch, Cursor, Fingerprint
from corelane.data.config import DatabaseConfig
from corelane.data.digest import RowsDigest
from corelane.data.source import Tell, iterate_rows, start_position, tell_nobody
from corelane.data.sources.database.interruptible import InterruptibleSnapshot
from corelane.data.sources.database.snapshot import (
    Key,
    KeyOrder,
    Snapshot,
    check_exact,
    without_secrets,
)
from corelane.machine.backoff import ExponentialBackoff

_POSTGRES = ("postgresql://", "postgres://")
_SQLITE = "sqlite:///"


class DatabaseSource:
    """A `DataSource` over what `config` selects.

    Making it connects to nothing. Raises, when read: `ConfigError` when the database does not let us in, `DataError`
    when the selection or its key cannot be, `SourceReadError` when the database cannot be reached or a read broke.
    """

    name = "database"

    def __init__(self, config: DatabaseConfig, *, clock: Clock | None = None, tell: Tell = tell_nobody) -> None:
        self._config = config
        self._clock = clock or SystemClock()
        self._tell = tell
        self._shown = without_secrets(config.url)
        self._schema: pa.Schema | None = None
        self._fingerprint: Fingerprint | None = None

    @classmethod
    def get_iterator(cls, config: DatabaseConfig | Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The rows that `config` selects, as dicts."""
        checked = config if isinstance(config, DatabaseConfig) else validate_config(config, DatabaseConfig)
        return iterate_rows(cls(checked))

    @property
    def is_local(self) -> bool:
        """No: each read is a query, and sees the data of its own moment."""
        return False

    def schema(self) -> pa.Schema:
        """The columns with plain types."""
        if self._schema is None:
            with self._opened_with_retries() as snapshot:
                self._schema = snapshot.schema
        return self._schema

    def fingerprint(self) -> Fingerprint:
        """With a version column the number of rows and its largest value (`stat`); else the digest of all rows, for
        which they are read once.
        """
        if self._fingerprint is None:
            if self._config.version_column is not None:
                with self._opened_with_retries() as snapshot:
                    self._fingerprint = self._stat(snapshot)
            else:
                digest = RowsDigest(self.schema())
                for rows in self.read_once():
                    digest.update(rows)
                self._fingerprint = Fingerprint("content", digest.hexdigest())
        return self._fingerprint

    def batches(self, start: Cursor | None = None) -> Iterator[Batch]:
        """Batches of at most `batch_rows` rows; see `DataSource.batches`. What lies before `start` is read and dropped.

        Raises `CursorError` for a start in a selection without an order, `DataError` when the data changed after the
        fingerprint was taken.
        """
        fingerprint = self.fingerprint()
        first = start_position(start, self.name, fingerprint)
        digest = RowsDigest(self.schema())
        position = 0
        for rows in self.read_once(needs_order=first > 0):
            digest.update(rows)
            begin, position = position, position + rows.num_rows
            if position > first:
                kept = rows.slice(max(0, first - begin))
                yield Batch(kept, position - kept.num_rows, Cursor(self.name, fingerprint.digest, position))
        if fingerprint.strength == "content" and digest.hexdigest() != fingerprint.digest:
            raise DataError(f"the data of {self._shown} must not change between two reads, but they did; start again")

    def read_once(self, *, needs_order: bool = False) -> Iterator[pa.RecordBatch]:
        """All rows of one snapshot, in order.

        When the connection breaks, reading goes on behind the last key where a key is declared (and, with a version
        column, nothing has changed since); otherwise `SourceRestartError` is raised and what was read must be
        discarded.
        """
        last: Key | None = None
        version: str | None = None
        num_rows = num_failures = 0
        backoff = ExponentialBackoff(self._config.max_retries, clock=self._clock)
        while True:
            try:
                with self._opened() as snapshot:
                    self._check_order(snapshot, needs_order=needs_order)
                    version = self._same_version(snapshot, version)
                    check_exact(snapshot.schema, self._config.key)
                    order = KeyOrder(self._config.key, last)  # nothing goes on behind a key that nobody declared
                    for rows in snapshot.read(last):
                        order.check(rows)
                        last, num_failures = order.last, 0
                        num_rows += rows.num_rows
                        yield rows
            except SourceReadError as error:
                num_failures += 1
                self._give_up_or_wait(error, last, num_rows, num_failures, backoff)
            else:
                return

    def _give_up_or_wait(
        self, error: SourceReadError, last: Key | None, num_rows: int, num_failures: int, backoff: ExponentialBackoff
    ) -> None:
        if num_rows and not self._config.key:
            self._tell("source_broken", {"source": self._shown, "num_rows": num_rows, "resumable": False})
            raise SourceRestartError(
                f"the read of {self._shown} broke after {num_rows} rows and starts again from the first: without a "
                "declared data.source.key nobody can tell which rows were read",
                detail=error.message,
            ) from error
        if num_failures > self._config.max_retries:
            where = f" behind the key {_shown_key(last)}" if last is not None else ""
            raise SourceReadError(
                f"{error.message.partition('; ')[0]}; given up{where} after {num_failures} tries", detail=error.detail
            ) from error
        fields = {
            "source": self._shown,
            "num_rows": num_rows,
            "resumed_after": _shown_key(last),
            "reason": error.message,
        }
        self._tell("source_reconnecting", fields)
        self._clock.sleep(backoff.delay_s(num_failures - 1))

    def _check_order(self, snapshot: Snapshot, *, needs_order: bool) -> None:
        if needs_order and not snapshot.order:
            raise CursorError(
                f"the rows of {self._shown} must have a key to go on from a cursor, got none; declare data.source.key"
            )

    def _same_version(self, snapshot: Snapshot, version: str | None) -> str | None:
        if self._config.version_column is None:
            return None
        now = snapshot.version()
        if version is not None and now != version:
            raise DataError(
                f"the data of {self._shown} must not change while they are read, but {self._config.version_column} did "
                "when the connection was lost; start again"
            )
        return now

    def _stat(self, snapshot: Snapshot) -> Fingerprint:
        config = self._config
        facts = [self._shown, config.table, config.columns, config.query, config.parameters, snapshot.version()]
        return Fingerprint("stat", hashlib.sha256(json.dumps(facts).encode()).hexdigest())

    @contextmanager
    def _opened(self) -> Iterator[Snapshot]:
        snapshot = _open(self._config)
        try:
            yield snapshot
        finally:
            snapshot.close()

    @contextmanager
    def _opened_with_retries(self) -> Iterator[Snapshot]:
        backoff = ExponentialBackoff(self._config.max_retries, clock=self._clock)
        snapshot: Snapshot | None = None
        for attempt in backoff.attempts(on=SourceReadError):
            with attempt:
                snapshot = _open(self._config)
        if snapshot is None:
            raise SourceReadError(f"{self._shown} must be reachable, got no connection; check that it runs")
        try:
            yield snapshot
        finally:
            snapshot.close()


def _open(config: DatabaseConfig) -> Snapshot:
    """A snapshot of the database that the URL names. SQLite, a file, may take its time: it knows no limit."""
    limit_s = None if config.url.startswith(_SQLITE) else config.statement_timeout_s
    return InterruptibleSnapshot(
        lambda: _connect(config),
        shown=without_secrets(config.url),
        opening_limit_s=None if limit_s is None else config.connect_timeout_s + 2 * limit_s,
        limit_s=limit_s,
    )


def _connect(config: DatabaseConfig) -> Snapshot:
    """The driver is imported here and nowhere else."""
    if config.url.startswith(_POSTGRES):
        from corelane.data.sources.database.postgres import PostgresSnapshot  # noqa: PLC0415

        return PostgresSnapshot(config)
    if config.url.startswith(_SQLITE):
        from corelane.data.sources.database.sqlite import SqliteSnapshot  # noqa: PLC0415

        return SqliteSnapshot(config)
    from corelane.data.sources.database.alchemy import AlchemySnapshot  # noqa: PLC0415

    return AlchemySnapshot(config)


def _shown_key(key: Key | None) -> str | None:
    return None if key is None else ", ".join(str(value)[:100] for value in key)
