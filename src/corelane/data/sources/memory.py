"""`InMemorySource`: rows that are in memory already, as NumPy arrays, Arrow tables or lists of dicts.

Anything that speaks Arrow's C stream (pandas, Polars, DuckDB) or DLPack (a torch tensor) enters without being imported.
What its owner could still change is copied or frozen (`ownership.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from corelane.core.config import validate_config
from corelane.core.errors import ConfigError, DataError
from corelane.data.batch import Batch, Cursor, Fingerprint
from corelane.data.config import MemoryConfig
from corelane.data.digest import RowsDigest
from corelane.data.source import Tell, iterate_rows, start_position, tell_nobody
from corelane.data.sources.ownership import take_over
from corelane.data.sources.plain import check_names, plain_rows, plain_schema
from corelane.data.stages.cast_tensor import tensor_array

_BATCH_ROWS = 8192


class InMemorySource:
    """A `DataSource` over one of: a dict of arrays by column name; a pair `(x, y)`, which become the columns x and y;
    a PyArrow table or record batch, or anything with `__arrow_c_stream__`; a list of dicts; a `MemoryConfig`.

    Arrays of two or more dimensions become tensor columns. `ownership` says of each column ("" is the whole table)
    whether its memory is shared, was copied, or was made read-only; `tell` hears of it. Raises `DataError` when the
    rows do not form a table.
    """

    name = "memory"

    def __init__(self, data: Any, *, batch_rows: int = _BATCH_ROWS, tell: Tell = tell_nobody) -> None:
        if isinstance(data, MemoryConfig):
            data, batch_rows = data.rows, data.batch_rows
        data, self.ownership = take_over(data)
        tell("memory_taken", dict(self.ownership))
        table = _to_table(data)
        check_names(table.schema.names, "the rows in memory")
        self._schema = plain_schema(table.schema)
        self._table = table
        self._batch_rows = batch_rows
        self._fingerprint: Fingerprint | None = None

    @property
    def is_local(self) -> bool:
        """Yes: the rows are here."""
        return True

    @classmethod
    def get_iterator(cls, config: Any) -> Iterator[dict[str, Any]]:
        """The rows that `config` holds, as dicts: a section, a mapping whose `rows` are anything this class is made
        from, or such rows themselves (arrays by column name only as `rows`).
        """
        if not isinstance(config, Mapping):
            return iterate_rows(cls(config))
        rows = config.get("rows", [])
        if isinstance(rows, list):
            return iterate_rows(cls(validate_config(config, MemoryConfig)))
        settings = validate_config({**config, "rows": []}, MemoryConfig)
        return iterate_rows(cls(rows, batch_rows=settings.batch_rows))

    def schema(self) -> pa.Schema:
        """The columns as Arrow sees them."""
        return self._schema

    def fingerprint(self) -> Fingerprint:
        """SHA-256 over the columns' names, types and values; computed once."""
        if self._fingerprint is None:
            digest = RowsDigest(self._schema)
            for rows in self._slices(0, _BATCH_ROWS):
                digest.update(rows)
            self._fingerprint = Fingerprint("content", digest.hexdigest())
        return self._fingerprint

    def batches(self, start: Cursor | None = None) -> Iterator[Batch]:
        """Batches of at most `batch_rows` rows; see `DataSource.batches`."""
        fingerprint = self.fingerprint()
        first = start_position(start, self.name, fingerprint)
        for rows in self._slices(first, self._batch_rows):
            end = first + rows.num_rows
            yield Batch(rows, first, Cursor(self.name, fingerprint.digest, end))
            first = end

    def _slices(self, first: int, num_rows: int) -> Iterator[pa.RecordBatch]:
        for offset in range(first, self._table.num_rows, num_rows):
            (rows,) = self._table.slice(offset, num_rows).combine_chunks().to_batches()
            yield plain_rows(rows, self._schema)


# --- tables from what users have --------------------------------------------------------------------------------------


def _to_table(data: Any) -> pa.Table:
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, Mapping):
        return columns_table(data)
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return _from_rows(data)
    if hasattr(data, "__arrow_c_stream__"):
        return pa.table(data)
    raise ConfigError(
        "rows in memory must be a dict of arrays, a pair (x, y), an Arrow table or a list of dicts, "
        f"got {type(data).__name__}; convert them"
    )


def columns_table(columns: Mapping[str, Any]) -> pa.Table:
    """Arrays by name as a table. Raises `DataError` when they are no columns of one length."""
    arrays = {str(name): _to_column(str(name), values) for name, values in columns.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"all columns in memory must have the same number of rows, got {lengths}")
    return pa.table(arrays)


def _from_rows(rows: Sequence[Any]) -> pa.Table:
    names: dict[str, None] = {}
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise DataError(f"every row in memory must be a dict, got {type(row).__name__} in row {index + 1}")
        names.update(dict.fromkeys(row))
    return pa.table({str(name): _from_values(str(name), [row.get(name) for row in rows]) for name in names})


def _to_column(name: str, values: Any) -> pa.Array:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        return _from_values(name, list(values))
    array = np.asarray(values)
    if array.ndim == 0:
        raise DataError(f"column {name!r} must be an array with one entry a row, got {type(values).__name__}")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype == object and array.ndim == 1:
        return _from_values(name, array.tolist())
    try:
        if array.ndim == 1:
            return pa.array(array)
        return tensor_array(array)
    except (pa.ArrowException, TypeError) as error:
        raise DataError(f"column {name!r} must hold numbers, text or times, got {array.dtype}; convert it") from error


def _from_values(name: str, values: list[Any]) -> pa.Array:
    """A column of Python values. Mixed ones become text, as in a CSV, so that the schema judges them one by one."""
    arrays = [np.asarray(value) for value in values if isinstance(value, np.ndarray | list | tuple)]
    if arrays and len(arrays) == len(values):
        return _stack(name, arrays)
    try:
        return _typed_or_text(name, values)
    except UnicodeEncodeError as error:
        raise DataError(f"column {name!r} must hold Unicode text, got {error.object[:40]!r}; repair it") from error


def _typed_or_text(name: str, values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        if any(isinstance(value, np.ndarray | list | tuple | Mapping) for value in values):
            raise DataError(f"column {name!r} must hold values of one kind, got a mixture; convert them") from error
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _stack(name: str, arrays: Sequence[np.ndarray[Any, Any]]) -> pa.Array:
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1 or arrays[0].ndim == 0:
        raise DataError(f"the arrays of column {name!r} must have one shape, got {shapes[:3]}; bring them to one")
    return _to_column(name, np.stack(arrays))
