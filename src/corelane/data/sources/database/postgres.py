"""PostgreSQL over ADBC: Arrow batches straight from a binary COPY, in one REPEATABLE READ, READ ONLY transaction.

Types that Arrow has no counterpart for are cast by the server: numerics to double precision, UUID, JSON, enumerations,
intervals and everything else unknown to text. Bound values travel as transaction-local settings, because COPY takes no
parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import adbc_driver_manager
import adbc_driver_postgresql.dbapi
import pyarrow as pa

from corelane.core.errors import ConfigError, DataError, SourceReadError
from corelane.data.config import DatabaseConfig
from corelane.data.sources.database import sql
from corelane.data.sources.database.snapshot import Key, check_columns, hide_secrets, without_secrets
from corelane.data.sources.plain import check_names, check_texts, plain_rows, plain_schema
from corelane.data.stages.column import nearest

_SETTING = "corelane.p_"  # custom settings need a dot; ours end with the transaction
_BATCH_BYTES = 4 << 20  # handed over at a time: large enough for speed, small beside any memory budget
_BASE = "q"  # what is selected from; a bare name in ORDER BY would mean the output, which may be cast
_TEXT_KINDS = ("text", "varchar", "bpchar", "name")
_PLACES = (
    "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname !~ '^(pg_|information_schema)' LIMIT 1000"
)
_PRIMARY_KEY = """
SELECT a.attname FROM pg_index i
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
WHERE i.indrelid = to_regclass($1) AND i.indisprimary ORDER BY array_position(i.indkey::int2[], a.attnum)"""
_COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
_END_WITH_CLIENT = """
SELECT set_config(name, '2s', true) FROM pg_settings WHERE name = 'client_connection_check_interval'"""
"""A query ends when its client is gone, not only when it wants to send rows; PostgreSQL can since version 14."""
_LOST_STATES = ("08", "53", "57")  # connection exceptions, insufficient resources, operator intervention
_PASSING = ("conflict with recovery", "could not serialize", "deadlock detected", "terminating connection")
"""What the server says of a statement that would work at another time, on a standby above all."""
_CASTS = {"numeric": "float8", "money": "numeric::float8"}


class PostgresSnapshot:
    """See `Snapshot`. Raises `SourceReadError` when the server cannot be reached, `ConfigError` when it refuses us,
    `DataError` when the table, a column or the query is not there.
    """

    def __init__(self, config: DatabaseConfig) -> None:
        self._config = config
        self._shown = without_secrets(config.url)
        self._connection = self._connect()
        try:
            with self._errors():
                self._begin()
                self._base, self._columns, self.order = self._select()
                self._describe()
        except BaseException:
            self.close()
            raise

    def version(self) -> str:
        """See `Snapshot.version`."""
        column = sql.quote_name(self._config.version_column or "")
        with self._errors():
            ((num_rows, largest),) = self._fetch(f"SELECT count(*), max({column})::text FROM {self._base}")  # noqa: S608
        return f"{num_rows}:{largest}"

    def read(self, after: Key | None) -> Iterator[pa.RecordBatch]:
        """See `Snapshot.read`."""
        keys = [self._order_expression(name) for name in self.order]
        values = [] if after is None else [self._bound(name, v) for name, v in zip(self.order, after, strict=True)]
        condition = sql.beyond(keys, values) if after is not None else None
        statement = sql.select(self._expressions, self._base, after=condition, order=keys)
        with self._errors(), self._connection.cursor() as cursor:
            # For the server the whole read is one statement: it may last. Its pauses are limited by whoever waits.
            self._run("SET LOCAL statement_timeout = 0")
            cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(_BATCH_BYTES)})
            cursor.execute(statement)
            for rows in cursor.fetch_record_batch():
                plain = plain_rows(rows, self.schema)
                check_texts(plain, self._shown)  # a database of the encoding SQL_ASCII holds any bytes
                for start in range(0, plain.num_rows, self._config.batch_rows):
                    yield plain.slice(start, self._config.batch_rows)

    def cancel(self) -> None:
        """See `Snapshot.cancel`."""
        with suppress(adbc_driver_manager.Error):
            self._connection.adbc_cancel()

    def close(self) -> None:
        """See `Snapshot.close`."""
        with suppress(adbc_driver_manager.Error):  # the connection may be broken already
            self._connection.close()

    # --- opening ------------------------------------------------------------------------------------------------------

    def _connect(self) -> Any:
        separator = "&" if "?" in self._config.url else "?"
        options = {
            "connect_timeout": max(2, round(self._config.connect_timeout_s)),  # libpq takes whole seconds, at least 2
            "application_name": "corelane",
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
        }
        given = self._config.url
        added = "&".join(f"{name}={value}" for name, value in options.items() if f"{name}=" not in given)
        try:
            return adbc_driver_postgresql.dbapi.connect(f"{given}{separator}{added}")
        except adbc_driver_manager.Error as error:
            raise self._refused(str(error)) from error

    def _refused(self, reason: str) -> ConfigError | SourceReadError:
        reason = hide_secrets(reason, self._config.url)
        words = " ".join(reason.rpartition("failed:")[2].split()) or "no reason"
        is_final = any(
            sign in reason for sign in ("authentication", "does not exist", "no pg_hba", "invalid", "password")
        )
        if is_final and "starting up" not in reason:
            return ConfigError(
                f"{self._shown} must be a database that lets us in, got: {words}; check data.source.url", detail=reason
            )
        return SourceReadError(f"{self._shown} must be reachable, got: {words}; check that it runs", detail=reason)

    def _begin(self) -> None:
        self._run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        self._run(f"SET LOCAL statement_timeout = {round(self._config.statement_timeout_s * 1000)}")
        self._run("SET LOCAL standard_conforming_strings = on")
        self._fetch(_END_WITH_CLIENT)

    def _select(self) -> tuple[str, list[str], tuple[str, ...]]:
        """What is selected from, its columns, and the order."""
        config = self._config
        if config.query is not None:
            base = f"({self._bound_query(config.query)}\n) AS {_BASE}"  # it may end in a comment
            return base, [], tuple(config.key)
        table = ".".join(sql.quote_name(part) for part in (config.table or "").split("."))
        found = [str(name) for (name,) in self._fetch(_COLUMNS, table)]
        if not found:
            places = [str(place) for (place,) in self._fetch(_PLACES)]
            near = nearest(config.table or "", [*places, *(place.partition(".")[2] for place in places)])
            raise DataError(f"data.source.table must be a table or view, got {config.table!r}{near}")
        check_columns(config.columns or (), found, "columns", table)
        names = config.columns or found
        primary = tuple(str(name) for (name,) in self._fetch(_PRIMARY_KEY, table))
        return f"{table} AS {_BASE}", names, tuple(config.key) or (primary if set(primary) <= set(names) else ())

    def _bound_query(self, query: str) -> str:
        """The query with its values bound: each is a setting of this transaction, cast to its own type."""
        parameters = self._config.parameters
        places = {name: f"{_SETTING}{index}" for index, name in enumerate(parameters)}
        for name, value in parameters.items():
            if value is not None:
                self._fetch("SELECT set_config($1, $2, true)", places[name], _as_text(value))
        return sql.bind_names(sql.check_query(query), parameters, lambda name: _setting(places[name], parameters[name]))

    def _describe(self) -> None:
        """Find the columns' types, and what must be cast; check the key and the version column."""
        columns = [sql.quote_name(name) for name in self._columns] or ["*"]
        raw = self._types(columns)
        check_names(raw.names, self._config.table or "the query")
        check_columns(self._config.key, raw.names, "key", "the selection")
        if self._config.version_column is not None:
            check_columns([self._config.version_column], raw.names, "version_column", "the selection")
        self._kinds = {field.name: _kind(field) for field in raw}
        self._expressions = [_expression(field) for field in raw]
        self.schema: pa.Schema = plain_schema(self._types(self._expressions))

    def _types(self, expressions: Sequence[str]) -> pa.Schema:
        with self._connection.cursor() as cursor:
            cursor.execute(sql.select(expressions, self._base, limit=" LIMIT 0"))
            return cursor.fetch_record_batch().schema

    def _order_expression(self, name: str) -> str:
        """The column as it is stored, not as it is selected; texts bytewise, as we compare them ourselves: a collation
        depends on the database's locale, and an enumeration's order on its declaration.
        """
        column, kind = f"{_BASE}.{sql.quote_name(name)}", self._kinds[name]
        if kind in _TEXT_KINDS:
            return f'{column} COLLATE "C"'
        return column if self._keeps_order(name) else f'{column}::text COLLATE "C"'

    def _bound(self, name: str, value: Any) -> str:
        text, kind = sql.literal(value), self._kinds[name]
        if kind in _TEXT_KINDS or not self._keeps_order(name):
            return text
        return f"({text})::{kind}"  # without the brackets -1::int2 is -(1::int2)

    def _keeps_order(self, name: str) -> bool:
        """Whether the column's own order is that of the values it is shown as."""
        return not pa.types.is_string(self.schema.field(name).type) or self._kinds[name] == "uuid"

    # --- asking -------------------------------------------------------------------------------------------------------

    def _run(self, statement: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)

    def _fetch(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (adbc_driver_manager.Error, OSError) as error:
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> DataError | SourceReadError:
        text, state = str(error), getattr(error, "sqlstate", None) or ""
        if "statement timeout" in text:
            return DataError(sql.timed_out(self._shown, self._config.statement_timeout_s), detail=text)
        is_answered = "ERROR:" in text  # the server's own word on the statement, over a connection that holds
        if any(sign in text for sign in _PASSING) or (not is_answered and _is_lost(error, state)):
            return SourceReadError(
                f"the connection to {self._shown} must last, got: {_first_line(text)}; it may work later", detail=text
            )
        return DataError(f"{self._shown} must run the statement, got: {_first_line(text)}", detail=text)


def _is_lost(error: Exception, state: str) -> bool:
    return isinstance(error, OSError) or state[:2] in _LOST_STATES or "connection" in str(error)


def _kind(field: pa.Field) -> str:
    return str((field.metadata or {}).get(b"POSTGRESQL:type", b"text").decode()).strip("'")


def _expression(field: pa.Field) -> str:
    name, kind = sql.quote_name(field.name), _kind(field)
    if kind in _CASTS:
        return f"{name}::{_CASTS[kind]} AS {name}"
    is_unknown = isinstance(field.type, pa.BaseExtensionType) or pa.types.is_interval(field.type)
    return f"{name}::text AS {name}" if is_unknown else name


def _setting(place: str, value: object) -> str:
    if value is None:
        return "NULL"
    kind = {bool: "boolean", int: "bigint", float: "double precision", str: "text"}[type(value)]
    return f"CAST(current_setting('{place}') AS {kind})"


def _as_text(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _first_line(text: str) -> str:
    message = text.partition("ERROR:")[2] or text
    return " ".join(message.partition("\n")[0].split())
