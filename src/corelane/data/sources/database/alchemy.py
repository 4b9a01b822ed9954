"""Any other database, through SQLAlchemy: rows from a server-side cursor, made columns of Arrow here.

Slower than Arrow straight from the server, and the same promises as far as the database keeps them: one transaction at
the highest isolation it has, read only where it can be asked for.
"""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa
import sqlalchemy
from sqlalchemy import exc

from corelane.core.errors import ConfigError, DataError, MissingDependencyError, SourceReadError
from corelane.data.config import DatabaseConfig
from corelane.data.sources.database import sql
from corelane.data.sources.database.snapshot import Key, check_columns, without_password
from corelane.data.sources.plain import check_names
from corelane.data.stages.column import nearest

_ISOLATION = ("REPEATABLE READ", "SNAPSHOT", "SERIALIZABLE")  # the first that the database knows
_TYPES: tuple[tuple[type, pa.DataType], ...] = (
    (bool, pa.bool_()),
    (int, pa.int64()),
    (float, pa.float64()),
    (decimal.Decimal, pa.float64()),
    (datetime.datetime, pa.timestamp("us")),
    (datetime.date, pa.date32()),
    (datetime.time, pa.time64("us")),
    (bytes, pa.binary()),
)
"""Arrow's type for values of a Python class, first match; anything else travels as text."""


class AlchemySnapshot:
    """See `Snapshot`. A column's type is that of its values in the first `batch_rows` rows. Raises `ConfigError` for a
    URL that SQLAlchemy does not know, `MissingDependencyError` without the database's driver, and as the others do.
    """

    def __init__(self, config: DatabaseConfig) -> None:
        self._config = config
        self._shown = without_password(config.url)
        self._engine = self._make_engine()
        try:
            with self._errors():
                self._connection = self._engine.connect().execution_options(isolation_level=self._isolation())
                self._base, self.order = self._select()
                options = {"stream_results": True, "max_row_buffer": config.batch_rows}
                with self._connection.execute(self._statement(None), execution_options=options) as first:
                    names = list(first.keys())
                    rows = first.fetchmany(config.batch_rows)
                check_names(names, config.table or "the query")
                check_columns(config.key, names, "key", "the selection")
                self.schema: pa.Schema = _schema(names, rows)
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
                yield self._batch(rows)

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

    def _statement(self, after: Key | None) -> sqlalchemy.TextClause:
        columns = [self._quote(name) for name in self._config.columns or ()] or ["*"]
        keys = [self._quote(name) for name in self.order]
        condition = None if after is None else _behind(keys)
        text = self._text(sql.select(columns, self._base, after=condition, order=keys))
        for index, value in enumerate(after or ()):
            text = text.bindparams(**{f"corelane_key_{index}": value})
        return text

    def _text(self, statement: str) -> sqlalchemy.TextClause:
        text = sqlalchemy.text(statement)
        values = self._config.parameters
        unused = values.keys() - text._bindparams.keys()
        if unused:
            raise ConfigError(f"data.source.parameters must be used in the query, got {sorted(unused)[0]!r}")
        return text.bindparams(**values)

    def _quote(self, name: str) -> str:
        return self._engine.dialect.identifier_preparer.quote_identifier(name)

    def _batch(self, rows: Sequence[Sequence[Any]]) -> pa.RecordBatch:
        columns = list(zip(*rows, strict=True))
        arrays = [_array(field, values) for field, values in zip(self.schema, columns, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except exc.DBAPIError as error:
            reason = " ".join(str(error.orig).partition("\n")[0].split())
            if error.connection_invalidated or isinstance(error, exc.OperationalError | exc.InterfaceError):
                message = f"the connection to {self._shown} must last, got: {reason}; it may work later"
                raise SourceReadError(message, detail=str(error)) from error
            message = f"{self._shown} must run the statement, got: {reason}"
            raise DataError(message, detail=str(error)) from error
        except exc.SQLAlchemyError as error:
            raise DataError(f"{self._shown} must run the statement, got: {error}", detail=str(error)) from error


def _behind(keys: Sequence[str]) -> str:
    """Rows behind the bound key: written out, since not every database compares rows."""
    cases = []
    for index, key in enumerate(keys):
        equal = [f"{earlier} = :corelane_key_{place}" for place, earlier in enumerate(keys[:index])]
        cases.append(" AND ".join([*equal, f"{key} > :corelane_key_{index}"]))
    return " OR ".join(f"({case})" for case in cases)


def _schema(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> pa.Schema:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    return pa.schema([(name, _type_of(values)) for name, values in zip(names, columns, strict=True)])


def _type_of(values: Sequence[Any]) -> pa.DataType:
    kinds = {_kind_of(value) for value in values if value is not None}
    if len(kinds) == 1:
        return kinds.pop()
    return pa.float64() if kinds == {pa.int64(), pa.float64()} else pa.string()


def _kind_of(value: Any) -> pa.DataType:
    found = next((kind for python, kind in _TYPES if isinstance(value, python)), pa.string())
    is_zoned = isinstance(value, datetime.datetime) and value.tzinfo is not None
    return pa.timestamp("us", "UTC") if is_zoned else found


def _array(field: pa.Field, values: Sequence[Any]) -> pa.Array:
    if pa.types.is_string(field.type):
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    if pa.types.is_floating(field.type):
        values = [float(value) if isinstance(value, decimal.Decimal) else value for value in values]
    try:
        return pa.array(values, field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"{field.name} must hold {field.type} in every row as in the first ones, got another value; "
            "cast it in data.source.query",
            detail=str(error),
        ) from error
