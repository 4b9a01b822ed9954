"""Results into a new table of PostgreSQL or SQLite, over ADBC, in one transaction.

The table is made with the first rows and appears when the transaction is committed at the end, so that a reader never
sees half of it. A table that is there already is left as it is: what is in it may be somebody's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import adbc_driver_manager
import adbc_driver_postgresql.dbapi
import adbc_driver_sqlite.dbapi
import pyarrow as pa

from corelane.core.errors import ConfigError, SinkWriteError
from corelane.data.sink import RowSink
from corelane.data.sinks.nested import lists_as_text
from corelane.data.sources.database import sql
from corelane.data.sources.database.snapshot import hide_secrets, without_secrets

_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")
_FINAL = (
    "authentication",
    "does not exist",
    "no pg_hba",
    "password",
    "permission denied",
    "readonly",
    "not a database",
)
"""What the servers write when the same will come again until somebody changes something."""


class _TableSink:
    def __init__(self, connection: Any, table: str) -> None:
        schema, _, self._name = table.rpartition(".")
        self._schema = schema or None
        self._connection = connection
        self._mode = "create"

    def write(self, rows: pa.RecordBatch) -> None:
        with self._connection.cursor() as cursor:
            cursor.adbc_ingest(self._name, lists_as_text(rows), mode=self._mode, db_schema_name=self._schema)
        self._mode = "append"


@contextmanager
def open_table_sink(uri: str) -> Iterator[RowSink]:
    """A sink whose table `uri`, `postgresql://user@host/shop#answers` or `sqlite:///shop.db#answers`, appears when the
    block ends without an error.

    Raises `ConfigError` for another database, no table's name, a database that does not let us in or a table that is
    there already, and `SinkWriteError` when the connection or the disk fails.
    """
    url, _, table = uri.partition("#")
    if not url.startswith((_SQLITE, *_POSTGRES)):
        raise ConfigError(
            "the output must be a file or a table of PostgreSQL or SQLite (sqlite:///shop.db#answers), "
            f"got {without_secrets(url)!r}; write a Parquet or CSV file and load that"
        )
    if not table.rpartition(".")[2]:
        raise ConfigError(f"the output must name a table behind #, got {without_secrets(url)!r}; add #answers, say")
    sql.quote_name(table)
    with _explained(url, table), closing(_connect(url)) as connection:
        yield _TableSink(connection, table)
        connection.commit()


def _connect(url: str) -> Any:
    if url.startswith(_SQLITE):
        path = Path(url.removeprefix(_SQLITE))
        if not path.parent.is_dir():
            raise ConfigError(f"the output must lie in a folder that is there, got {str(path)!r}; make the folder")
        return adbc_driver_sqlite.dbapi.connect(str(path))
    return adbc_driver_postgresql.dbapi.connect(url)


@contextmanager
def _explained(url: str, table: str) -> Iterator[None]:
    try:
        yield
    except adbc_driver_manager.Error as error:
        detail = hide_secrets(str(error), url)
        reason = " ".join(detail.split())
        if "already exists" in reason:
            message = f"the output must be a new table, got {table!r}, which exists; drop it or name another"
            raise ConfigError(message, detail=detail) from error
        if any(sign in reason for sign in _FINAL):
            message = f"{without_secrets(url)} must let us write, got: {reason}; check the output's URL"
            raise ConfigError(message, detail=detail) from error
        message = f"{without_secrets(url)} must take the rows, got: {reason}; nothing is written, it may work later"
        raise SinkWriteError(message, detail=detail) from error
