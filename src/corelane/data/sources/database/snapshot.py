"""What a database must be able to do for `DatabaseSource`: show one snapshot, in order, from a key on.

One module each for PostgreSQL, SQLite and everything that SQLAlchemy reaches. A snapshot holds a connection and a
transaction; whoever opens it closes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias
from urllib.parse import unquote, urlsplit, urlunsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corelane.core.errors import ConfigError, DataError
from corelane.core.types import BoolArray
from corelane.data.stages.column import nearest

Key: TypeAlias = tuple[Any, ...]
"""The values of the key columns of one row."""


_EXACT = (pa.types.is_integer, pa.types.is_string, pa.types.is_date, pa.types.is_timestamp)
_SECRET_OPTION = re.compile(r"([?&][^=&#]*(?:pass|secret|token|pwd)[^=&#]*=)([^&#]*)", re.IGNORECASE)


class Snapshot(Protocol):
    """A connection in one read-only transaction that sees one state of the data."""

    @property
    def schema(self) -> pa.Schema:
        """The columns that `read` gives, plain types."""
        ...

    @property
    def order(self) -> tuple[str, ...]:
        """The columns that put the rows in order: the declared key, else the primary key, else none."""
        ...

    def version(self) -> str:
        """The number of rows and the largest value of the version column, as text."""
        ...

    def read(self, after: Key | None) -> Iterator[pa.RecordBatch]:
        """The rows, in order, behind the key `after`; at most `batch_rows` at a time.

        Raises `SourceReadError` when the connection broke, `DataError` when the statement cannot be run.
        """
        ...

    def cancel(self) -> None:
        """From another thread: end the statement that runs. Where the driver cannot, nothing happens."""
        ...

    def close(self) -> None:
        """End the transaction and the connection, in the middle of a read too. May be called twice."""
        ...


def without_secrets(url: str) -> str:
    """`url` as it may be shown: passwords, in its front or among its options, are left out."""
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:  # brackets that do not close
        return url.partition("://")[0] + "://***"
    if password is not None:
        host = parts.netloc.rpartition("@")[2]
        url = urlunsplit(parts._replace(netloc=f"{parts.username}:***@{host}"))
    return _SECRET_OPTION.sub(r"\1***", url)


def hide_secrets(text: str, url: str) -> str:
    """`text` of a driver, which may repeat what it could not read of `url`, without its passwords."""
    try:
        password = urlsplit(url).password or ""
    except ValueError:
        return "a URL that cannot be read"
    secrets = {password, *(match[2] for match in _SECRET_OPTION.finditer(url))}
    for secret in sorted(secrets | {unquote(secret) for secret in secrets}, key=len, reverse=True):
        text = text.replace(secret, "***") if secret else text
    return text


def check_columns(wanted: Sequence[str], known: Sequence[str], what: str, place: str) -> None:
    """Raise `DataError` unless each of `wanted` is a column of `place`; `what` is the setting that names it."""
    for name in wanted:
        if name not in known:
            raise DataError(f"data.source.{what} must name columns of {place}, got {name!r}{nearest(name, known)}")


def check_exact(schema: pa.Schema, key: Sequence[str]) -> None:
    """Raise `ConfigError` unless the values of each column of `key` are exact here, so that they can be compared and
    gone on behind.
    """
    for name in key:
        kind = schema.field(name).type
        if not any(is_exact(kind) for is_exact in _EXACT):
            raise ConfigError(
                f"data.source.key must name columns of whole numbers, texts, dates or timestamps, got {name!r} of "
                f"{kind}; declare others, or cast it in data.source.query"
            )


class KeyOrder:
    """Sees to it that keys are there, unique and rising, and remembers the last one."""

    def __init__(self, names: Sequence[str], after: Key | None = None) -> None:
        self._names = tuple(names)
        self.last = after

    def check(self, rows: pa.RecordBatch) -> None:
        """Take the next rows. Raises `DataError` when a key is missing, or not behind the one before it."""
        if not self._names or not rows.num_rows:
            return
        columns = [rows.column(name) for name in self._names]
        for name, column in zip(self._names, columns, strict=True):
            if column.null_count:
                raise DataError(f"the key column {name} must have a value in every row, got null; declare another key")
        first, last = self._key_at(columns, 0), self._key_at(columns, -1)
        is_rising = self.last is None or self.last < first
        if not (is_rising and bool(_rises(columns).all())):
            raise DataError(
                f"the key {', '.join(self._names)} must be different in every row, got one twice near {first!r}; "
                "add a column to data.source.key"
            )
        self.last = last

    def _key_at(self, columns: Sequence[pa.Array], index: int) -> Key:
        try:
            return tuple(column[index].as_py() for column in columns)
        except (OverflowError, ValueError) as error:  # what Arrow says of it names neither the column nor a way out
            raise DataError(
                f"the key {', '.join(self._names)} must hold times of the years 1 to 9999, got one outside; "
                "declare another key"
            ) from error


def _rises(columns: Sequence[pa.Array]) -> BoolArray:
    """Whether each row's key is above that of the row before it: bool [n - 1]."""
    above: BoolArray = np.zeros(len(columns[0]) - 1, dtype=np.bool_)
    for column in reversed(columns):
        before, behind = column[:-1], column[1:]
        greater = pc.greater(behind, before).to_numpy(zero_copy_only=False)
        above = greater | (pc.equal(behind, before).to_numpy(zero_copy_only=False) & above)
    return above
