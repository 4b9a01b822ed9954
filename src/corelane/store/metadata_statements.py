"""Records to rows and back: the statements of the metadata store.

Writing is by key, so a record that is written twice, or by two processes at once, is there once. Rows are written in
one order (tables as they depend, then keys), which keeps concurrent transactions from waiting for each other in a
circle. Used by `store/metadata.py`; importing it imports SQLAlchemy.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, Insert, Select, Table, delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from corelane.store.metadata_records import (
    MAX_METRICS,
    Checkpoint,
    Dataset,
    Metric,
    PackageRecord,
    Record,
    RunCheckpoints,
    RunMetrics,
    RunRecord,
    Serving,
    document,
    stored_text,
)
from corelane.store.metadata_schema import checkpoints, datasets, metrics, packages, runs, servings

_ORDER = (Dataset, RunRecord, RunMetrics, RunCheckpoints, PackageRecord, Serving)
_DOCUMENTS = frozenset({"source", "schema", "profile", "config", "seconds", "metrics"})
_TEXTS = frozenset({"title", "directory", "host", "url", "error", "task", "created"})


def write(connection: Connection, records: Iterable[Record]) -> None:
    """Write `records` in the caller's transaction."""
    for record in sorted(records, key=_place):
        match record:
            case RunMetrics():
                _write_metrics(connection, record)
            case RunCheckpoints():
                _write_checkpoints(connection, record)
            case Dataset():
                _upsert(connection, datasets, [{"key": record.key, **_row(record)}])
            case Serving():
                _upsert(connection, servings, [{"key": record.key, **_row(record)}])
            case PackageRecord():
                _upsert(connection, packages, [_row(record)])
            case RunRecord():
                _upsert(connection, runs, [_row(record)], newest="seen_s")


def forget_runs(connection: Connection, keys: Sequence[str]) -> None:
    """Delete the runs `keys` with their metrics and checkpoints, and their data sets if no other run has seen them."""
    seen = select(runs.c.dataset).where(runs.c.key.in_(keys), runs.c.dataset.is_not(None))
    candidates = list(connection.scalars(seen.distinct()))
    for table, column in ((metrics, metrics.c.run), (checkpoints, checkpoints.c.run), (runs, runs.c.key)):
        for key in sorted(keys):
            connection.execute(delete(table).where(column == key))
    used = select(runs.c.dataset).where(runs.c.dataset.in_(candidates))
    connection.execute(delete(datasets).where(datasets.c.key.in_(candidates), datasets.c.key.not_in(used)))


def forget_packages(connection: Connection, digests: Sequence[str]) -> None:
    """Delete the packages `digests`; who served them stays on record."""
    for digest in sorted(digests):
        connection.execute(delete(packages).where(packages.c.digest == digest))


# --- reading ----------------------------------------------------------------------------------------------------------


def find_runs(connection: Connection, *where: ColumnElement[bool], limit: int | None = None) -> list[RunRecord]:
    """Runs, newest first."""
    query = select(runs).where(*where).order_by(runs.c.started_s.desc(), runs.c.name.desc()).limit(limit)
    return [RunRecord(**values) for values in _rows(connection, query)]


def find_dataset(connection: Connection, key: str) -> Dataset | None:
    """The data set of that key."""
    found = _rows(connection, select(datasets).where(datasets.c.key == key))
    return Dataset(**{name: value for name, value in found[0].items() if name != "key"}) if found else None


def find_metrics(connection: Connection, run: str) -> list[Metric]:
    """All values of a run by step, then name."""
    query = select(metrics).where(metrics.c.run == run).order_by(metrics.c.step, metrics.c.name)
    return [Metric(row.name, row.step, row.epoch, row.value) for row in connection.execute(query)]


def find_checkpoints(connection: Connection, run: str) -> list[Checkpoint]:
    """The checkpoints of a run, oldest first."""
    query = select(checkpoints).where(checkpoints.c.run == run).order_by(checkpoints.c.step)
    return [Checkpoint(row.step, row.digest, row.num_bytes, row.is_best) for row in connection.execute(query)]


def find_packages(connection: Connection, *where: ColumnElement[bool]) -> list[PackageRecord]:
    """Packages by name, then version."""
    query = select(packages).where(*where).order_by(packages.c.name, packages.c.version, packages.c.digest)
    return [PackageRecord(**values) for values in _rows(connection, query)]


def find_servings(connection: Connection, digest: str) -> list[Serving]:
    """Who served that package, oldest first."""
    query = select(servings).where(servings.c.package == digest).order_by(servings.c.since_s, servings.c.key)
    return [
        Serving(**{name: value for name, value in values.items() if name != "key"})
        for values in _rows(connection, query)
    ]


def _rows(connection: Connection, query: Select[Any]) -> list[dict[str, Any]]:
    return [
        {
            name: json.loads(value) if name in _DOCUMENTS and value is not None else value
            for name, value in row._mapping.items()
        }
        for row in connection.execute(query)
    ]


# --- writing ----------------------------------------------------------------------------------------------------------


def _place(record: Record) -> tuple[int, str]:
    match record:
        case RunMetrics() | RunCheckpoints():
            key = record.run
        case PackageRecord():
            key = record.digest
        case _:
            key = record.key
    return _ORDER.index(type(record)), key


def _row(record: Any) -> dict[str, Any]:
    return {name: _stored(name, value) for name, value in asdict(record).items()}


def _stored(name: str, value: Any) -> Any:
    if value is not None and name in _DOCUMENTS:
        return document(value)
    return stored_text(value) if value is not None and name in _TEXTS else value


def _upsert(connection: Connection, table: Table, rows: list[dict[str, Any]], newest: str | None = None) -> None:
    """Insert, or overwrite what has the key; with `newest` only where that column is not larger already."""
    if rows:
        connection.execute(_upsert_statement(connection.dialect.name, table, newest), rows)


def _upsert_statement(dialect: str, table: Table, newest: str | None) -> Insert:
    keys = [column.name for column in table.primary_key]
    made = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    changes = {column.name: made.excluded[column.name] for column in table.columns if column.name not in keys}
    where = None if newest is None else made.excluded[newest] >= table.c[newest]
    return made.on_conflict_do_update(index_elements=keys, set_=changes, where=where)


def _write_metrics(connection: Connection, record: RunMetrics) -> None:
    if record.replaces:
        connection.execute(delete(metrics).where(metrics.c.run == record.run))
    _upsert(connection, metrics, [{"run": record.run, **asdict(value)} for value in record.values[:MAX_METRICS]])


def _write_checkpoints(connection: Connection, record: RunCheckpoints) -> None:
    connection.execute(delete(checkpoints).where(checkpoints.c.run == record.run))
    rows = [{"run": record.run, **asdict(checkpoint)} for checkpoint in record.checkpoints]
    if rows:
        connection.execute(insert(checkpoints), rows)
