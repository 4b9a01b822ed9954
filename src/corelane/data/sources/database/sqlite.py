"""SQLite over ADBC, read-only, in one read transaction.

A column of SQLite may hold values of any type in any row, and the driver fixes a column's type by the first rows. So
one pass looks at what each column really holds: whole numbers, numbers, texts or bytes, the widest wins, and every
value is cast to it. A first row of such values, dropped again, tells the driver.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import adbc_driver_manager
import adbc_driver_sqlite.dbapi
import pyarrow as pa

from corelane.core.errors import ConfigError, DataError, SourceReadError
from corelane.data.config import DatabaseConfig
from corelane.data.sources.database import sql
from corelane.data.sources.database.snapshot import Key, check_columns
from corelane.data.sources.plain import check_names, check_texts
from corelane.data.stages.column import nearest

_PREFIX = "sqlite:///"
_TYPES = {"integer": pa.int64(), "real": pa.float64(), "text": pa.string(), "blob": pa.binary()}
_EXAMPLES = {"integer": "0", "real": "0.0", "text": "''", "blob": "x''"}


class SqliteSnapshot:
    """See `Snapshot`. Raises `ConfigError` when there is no such file, `DataError` when it is no database or the table,
    a column or the query is not there.
    """

    def __init__(self, config: DatabaseConfig) -> None:
        self._config = config
        self._path = Path(config.url.removeprefix(_PREFIX))
        if not self._path.is_file():
            raise ConfigError(f"data.source.url must name a SQLite file, got {str(self._path)!r}: nothing there")
        with self._errors():
            self._connection = adbc_driver_sqlite.dbapi.connect(f"file:{quote(str(self._path))}?mode=ro")
        try:
            with self._errors():
                self._fetch("PRAGMA query_only = 1")
                self._base, names, self.order = self._select()
                self._kinds, self._expressions = self._look(names)
        except BaseException:
            self.close()
            raise
        self.schema: pa.Schema = pa.schema([(name, _TYPES[kind]) for name, kind in self._kinds.items()])

    def version(self) -> str:
        """See `Snapshot.version`."""
        column = sql.quote_name(self._config.version_column or "")
        with self._errors():
            ((num_rows, largest),) = self._fetch(f"SELECT count(*), max({column}) FROM {self._base}", self._values())  # noqa: S608
        return f"{num_rows}:{largest}"

    def read(self, after: Key | None) -> Iterator[pa.RecordBatch]:
        """See `Snapshot.read`."""
        keys = [f"{self._expressions[name]} COLLATE BINARY" for name in self.order]
        condition = None if after is None else sql.beyond(keys, [sql.literal(value) for value in after])
        casts = [f"{expression} AS {sql.quote_name(name)}" for name, expression in self._expressions.items()]
        examples = [f"{_EXAMPLES[kind]} AS {sql.quote_name(name)}" for name, kind in self._kinds.items()]
        rows = sql.select(casts, self._base, after=condition, order=keys, limit=" LIMIT -1")  # a limit keeps the order
        statement = f"SELECT {', '.join(examples)} UNION ALL SELECT * FROM ({rows})"  # noqa: S608
        is_first = True
        with self._errors(), self._connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": str(self._config.batch_rows)})
            cursor.execute(statement, self._values() or None)
            for batch in cursor.fetch_record_batch():
                kept = batch.slice(1) if is_first else batch
                is_first = False
                if kept.num_rows:
                    plain = kept.cast(self.schema)
                    check_texts(plain, str(self._path))  # SQLite takes any bytes for a text
                    yield plain

    def cancel(self) -> None:
        """See `Snapshot.cancel`: the driver cannot."""

    def close(self) -> None:
        """See `Snapshot.close`."""
        with suppress(adbc_driver_manager.Error):
            self._connection.close()

    # --- opening ------------------------------------------------------------------------------------------------------

    def _select(self) -> tuple[str, list[str], tuple[str, ...]]:
        config = self._config
        if config.query is not None:
            query = sql.bind_names(sql.check_query(config.query), config.parameters, self._placeholder)
            base = f"({query}\n)"  # it may end in a comment
            names, primary = self._names_of(base), []
        else:
            schema, _, table = (config.table or "").rpartition(".")
            found = self._fetch("SELECT name, pk FROM pragma_table_info(?1, ?2)", (table, schema or "main"))
            if not found:
                tables = [
                    name for (name,) in self._fetch("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
                ]
                raise DataError(
                    f"data.source.table must be a table or view of {self._path}, got {config.table!r}"
                    f"{nearest(config.table or '', tables)}"
                )
            base = f"{sql.quote_name(schema or 'main')}.{sql.quote_name(table)}"
            names = [str(name) for name, _ in found]
            primary = [str(name) for name, place in sorted(found, key=lambda row: row[1]) if place]
            check_columns(config.columns or (), names, "columns", config.table or "")
            names = config.columns or names
        check_names(names, str(self._path))
        check_columns(config.key, names, "key", "the selection")
        if config.version_column is not None:
            check_columns([config.version_column], names, "version_column", "the selection")
        return base, names, tuple(config.key) or (tuple(primary) if set(primary) <= set(names) else ())

    def _placeholder(self, name: str) -> str:
        return f"?{list(self._config.parameters).index(name) + 1}"

    def _values(self) -> tuple[Any, ...]:
        return tuple(self._config.parameters.values())

    def _names_of(self, base: str) -> list[str]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql.select(["*"], base, limit=" LIMIT 0"), self._values() or None)
            return [str(column[0]) for column in cursor.description or ()]

    def _look(self, names: list[str]) -> tuple[dict[str, str], dict[str, str]]:
        """The widest type of value in each column (bytes alone, texts before numbers before whole numbers), and the
        expression that gives every value that type.
        """
        seen = ("integer", "real", "text", "blob")
        asked = [f"max(typeof({sql.quote_name(name)}) = '{kind}')" for name in names for kind in seen]
        (answers,) = self._fetch(sql.select(asked, self._base), self._values())
        kinds, expressions = {}, {}
        for index, name in enumerate(names):
            held = [kind for kind, answer in zip(seen, answers[4 * index : 4 * index + 4], strict=True) if answer]
            kinds[name] = "blob" if held == ["blob"] else _widest(held)
            quoted = sql.quote_name(name)
            expressions[name] = quoted if len(held) <= 1 else f"CAST({quoted} AS {kinds[name]})"
        return kinds, expressions

    def _fetch(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (adbc_driver_manager.Error, OSError) as error:
            text = " ".join(str(error).split())
            if "database is locked" in text or "disk I/O" in text:
                message = f"{self._path} must be readable, got: {text}; it may work later"
                raise SourceReadError(message, detail=text) from error
            raise DataError(f"{self._path} must run the statement, got: {text}", detail=text) from error


def _widest(held: list[str]) -> str:
    if "blob" in held or "text" in held or not held:
        return "text"
    return "real" if "real" in held else "integer"
