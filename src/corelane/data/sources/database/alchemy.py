"""Any other database, through SQLAlchemy: rows from a server-side cursor, made columns of Arrow (`row_columns.py`).

Slower than Arrow straight from the server, and the same promises as far as the database keeps them: one transaction at
the highest isolation it has, read only and limited in time where `_BEGIN` knows how to ask for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa
import sqlalchemy
from sqlalchemy import exc

from corelane.core.errors import ConfigError, DataError, MissingDependencyError, SourceReadError
from corelane.data.config import DatabaseConfig
from corelane.data.sources.database import sql
from corelane.data.sources.database.row_columns import batch_of, schema_of
from corelane.data.sources.database.snapshot import Key, check_columns, hide_secrets, without_secrets
from corelane.data.sources.plain import check_names
from corelane.data.stages.column import nearest

_ISOLATION = ("REPEATABLE READ", "SNAPSHOT", "SERIALIZABLE")  # the first that the database knows
_BEGIN: Mapping[str, tuple[str, ...]] = {
    "postgresql": ("SET TRANSACTION READ ONLY", "SET LOCAL statement_timeout = {milliseconds}"),
    "mysql": (
        "SET SESSION max_execution_time = {milliseconds}",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    ),
    "mariadb": ("SET SESSION max_statement_time = {seconds}", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"),
    "sqlite": ("PRAGMA query_only = 1", "BEGIN"),
}
"""What begins a transaction that can only read, and sets its limit of time, by SQLAlchemy's name of the dialect."""

_BYTEWISE: Mapping[str, str] = {
    "postgresql": 'CAST({} AS text) COLLATE "C"',  # what is shown as text, a UUID or an enumeration, may be none
    "mysql": "CONVERT({} USING utf8mb4) COLLATE utf8mb4_bin",
    "mariadb": "CONVERT({} USING utf8mb4) COLLATE utf8mb4_bin",
    "sqlite": "{} COLLATE BINARY",
}
"""How texts are compared as we compare them: a collation in which `a` equals `A` would skip rows behind a key."""

_REFUSED = ("authentication", "access denied", "does not exist", "unknown database", "unable to open")
_LOST = ("connection", "gone away", "locked", "shut", "deadlock", "lock wait", "starting up")
"""What drivers write, in lower case, that will not get better, and that may: they have no code in common."""
_TIMED_OUT = ("57014", 1969, 3024)  # a statement's limit of time: PostgreSQL, MariaDB, MySQL


class AlchemySnapshot:
    """See `Snapshot`. A column's type is that of its values in the first `batch_rows` rows. Raises `ConfigError` for a
    URL that SQLAlchemy does not know, `MissingDependencyError` without the database's driver, and as the others do.
    """

    def __init__(self, config: DatabaseConfig) -> None:
        self._config = config
        self._shown = without_secrets(config.url)
        self._engine = self._make_engine()
        self._keys: list[str] = []
        try:
            with self._errors():
                self._connection = self._engine.connect().execution_options(isolation_level=self._isolation())
                self._begin()
                self._base, self.order = self._select()
                first = self._connection.execute(self._first_rows())
                names, rows = list(first.keys()), first.fetchall()
                check_names(names, config.table or "the query")
                check_columns(config.key, names, "key", "the selection")
                if config.version_column is not None:
                    check_columns([config.version_column], names, "version_column", "the selection")
                self.schema: pa.Schema = schema_of(names, rows)
                self._keys = [self._order_expression(name) for name in self.order]
        except BaseException:
            self.close()
            raise

    def version(self) -> str:
        """See `Snapshot.version`."""
        column = self._quote(self._config.version_column or "")
        statement = f"SELECT count(*), max({column}) FROM {self._base}"  # noqa: S608
        with self._errors():
            num_rows, largest = self._connection.execute(self._text(statement)).one()
        return f"{num_rows}:{largest}"

    def read(self, after: Key | None) -> Iterator[pa.RecordBatch]:
        """See `Snapshot.read`."""
        with self._errors():
            options = {"stream_results": True, "max_row_buffer": self._config.batch_rows}
            result = self._connection.execute(self._statement(after), execution_options=options)
            for rows in result.partitions(self._config.batch_rows):
                yield batch_of(rows, self.schema)

    def cancel(self) -> None:
        """See `Snapshot.cancel`: some drivers can."""
        connection: Any = self._connection.connection.driver_connection
        if hasattr(connection, "cancel"):
            with self._errors():
                connection.cancel()

    def close(self) -> None:
        """See `Snapshot.close`."""
        with suppress(exc.SQLAlchemyError):
            if hasattr(self, "_connection"):
                self._connection.close()
            self._engine.dispose()

    # --- opening ------------------------------------------------------------------------------------------------------

    def _make_engine(self) -> sqlalchemy.Engine:
        try:
            return sqlalchemy.create_engine(self._config.url, poolclass=sqlalchemy.NullPool)
        except exc.NoSuchModuleError as error:
            raise ConfigError(f"data.source.url must be of a database SQLAlchemy knows, got {self._shown!r}") from error
        except exc.ArgumentError as error:
            raise ConfigError(f"data.source.url must be a database's URL, got {self._shown!r}; correct it") from error
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"the driver {error.name} must be installed to read {self._shown}, got none; pip install it"
            ) from error

    def _isolation(self) -> str:
        known = self._engine.dialect.get_isolation_level_values(None)  # type: ignore[arg-type]
        return next((level for level in _ISOLATION if level in known), "AUTOCOMMIT")

    @property
    def _dialect(self) -> str:
        is_mariadb = getattr(self._engine.dialect, "is_mariadb", False)
        return "mariadb" if is_mariadb else self._engine.dialect.name

    def _begin(self) -> None:
        seconds = self._config.statement_timeout_s
        for statement in _BEGIN.get(self._dialect, ()):
            filled = statement.format(seconds=seconds, milliseconds=max(1, round(seconds * 1000)))
            self._connection.exec_driver_sql(filled)

    def _select(self) -> tuple[str, tuple[str, ...]]:
        config = self._config
        if config.query is not None:
            return f"({sql.check_query(config.query)}\n) AS q", tuple(config.key)
        schema, _, table = (config.table or "").rpartition(".")
        inspector = sqlalchemy.inspect(self._connection)
        try:
            names = [column["name"] for column in inspector.get_columns(table, schema or None)]
        except exc.NoSuchTableError as error:
            near = nearest(table, inspector.get_table_names(schema or None))
            raise DataError(f"data.source.table must be a table or view, got {config.table!r}{near}") from error
        check_columns(config.columns or (), names, "columns", config.table or "")
        check_columns(config.key, names, "key", config.table or "")
        primary = inspector.get_pk_constraint(table, schema or None)["constrained_columns"]
        kept = config.columns or names
        base = ".".join(self._quote(part) for part in (schema, table) if part)
        return base, tuple(config.key) or (tuple(primary) if set(primary) <= set(kept) else ())

    def _first_rows(self) -> sqlalchemy.Select[Any]:
        """As many as decide on the types. Limited by the server: some drivers can only stop by reading to the end."""
        named: list[sqlalchemy.ColumnClause[Any]] = [
            sqlalchemy.column(sqlalchemy.quoted_name(name, quote=True)) for name in self._config.columns or ()
        ]
        columns = named or [sqlalchemy.literal_column("*")]
        return sqlalchemy.select(*columns).select_from(self._text(self._base)).limit(self._config.batch_rows)

    def _statement(self, after: Key | None) -> sqlalchemy.TextClause:
        columns = [self._quote(name) for name in self._config.columns or ()] or ["*"]
        values = {f"corelane_key_{index}": value for index, value in enumerate(after or ())}
        condition = _behind(self._keys) if values else None
        return self._text(sql.select(columns, self._base, after=condition, order=self._keys), values)

    def _order_expression(self, name: str) -> str:
        is_text = pa.types.is_string(self.schema.field(name).type)
        return (_BYTEWISE.get(self._dialect, "{}") if is_text else "{}").format(self._quote(name))

    def _text(self, statement: str, keys: Mapping[str, Any] | None = None) -> sqlalchemy.TextClause:
        """The statement with its values bound, and nothing else in it taken for the name of one."""
        values = {**self._config.parameters, **(keys or {})}
        text = sql.bind_names(statement, values, lambda name: f"\0{name}\0").replace(":", "\\:")
        for name in values:
            text = text.replace(f"\0{name}\0", f":{name}")
        return sqlalchemy.text(text).bindparams(**values)

    def _quote(self, name: str) -> str:
        return self._engine.dialect.identifier_preparer.quote_identifier(name)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except exc.DBAPIError as error:
            raise self._explain(error) from error
        except exc.SQLAlchemyError as error:
            reason = _first_line(error)
            raise DataError(f"{self._shown} must run the statement, got: {reason}", detail=str(error)) from error

    def _explain(self, error: exc.DBAPIError) -> ConfigError | DataError | SourceReadError:
        reason, detail = (hide_secrets(text, self._config.url) for text in (_first_line(error.orig), str(error)))
        words = reason.lower()
        codes = {getattr(error.orig, "sqlstate", None), *getattr(error.orig, "args", ())[:1]}
        if codes & set(_TIMED_OUT):
            return DataError(sql.timed_out(self._shown, self._config.statement_timeout_s), detail=detail)
        is_from_server = isinstance(error, exc.OperationalError | exc.InterfaceError)
        if not hasattr(self, "_connection") and any(sign in words for sign in _REFUSED):
            return ConfigError(
                f"{self._shown} must be a database that lets us in, got: {reason}; check data.source.url", detail=detail
            )
        if error.connection_invalidated or (is_from_server and any(sign in words for sign in _LOST)):
            return SourceReadError(
                f"the connection to {self._shown} must last, got: {reason}; it may work later", detail=detail
            )
        return DataError(f"{self._shown} must run the statement, got: {reason}", detail=detail)


def _first_line(error: BaseException | None) -> str:
    return " ".join(str(error).partition("\n")[0].split())


def _behind(keys: Sequence[str]) -> str:
    """Rows behind the bound key: written out, since not every database compares rows."""
    cases = []
    for index, key in enumerate(keys):
        equal = [f"{earlier} = :corelane_key_{place}" for place, earlier in enumerate(keys[:index])]
        cases.append(" AND ".join([*equal, f"{key} > :corelane_key_{index}"]))
    return " OR ".join(f"({case})" for case in cases)
