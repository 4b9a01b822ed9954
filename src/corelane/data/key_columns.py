"""Columns that are compared and nothing else: an identifier, a document, whatever is excluded from training.

Each cell becomes one text, as a category's cell does, but no cell is refused for its length. Used by `pieces.py` and
`inspection.py` for the columns that `RowRules.keys` names.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corelane.core.errors import DataError
from corelane.core.types import IntArray
from corelane.data.checked import RawRows
from corelane.data.rules import RowRules
from corelane.data.schema import pick_column
from corelane.data.stages.cast_numeric import MISSING_TEXTS, is_text
from corelane.data.stages.cast_text import cast_text
from corelane.data.stages.column import Column

_MISSING = pa.array(sorted(MISSING_TEXTS))


def with_keys(rules: RowRules, rows: pa.RecordBatch, positions: IntArray, raw: RawRows) -> pa.RecordBatch:
    """Checked `rows` [n] at `positions` [n], with the columns beside them that only `rules` read, from `raw`.

    Raises `DataError` when `raw` has no such column, or one that cannot be compared.
    """
    if not rules.keys:
        return rows
    places = pa.array(np.searchsorted(raw.positions, positions))
    columns = [key_texts(name, pick_column(raw.rows, name)).take(places) for name in rules.keys]
    return pa.RecordBatch.from_arrays([*rows.columns, *columns], names=[*rows.schema.names, *rules.keys])


def key_texts(name: str, raw: pa.Array) -> pa.Array:
    """The cells of a raw column [n] as strings, null where missing: texts without the spaces around them, whole and
    decimal numbers with all their digits. Raises `DataError` for cells that are no scalars.
    """
    if pa.types.is_dictionary(raw.type):
        raw = raw.dictionary_decode()
    if is_text(raw.type):
        texts = pc.utf8_trim_whitespace(raw.cast(pa.large_string()))
        return pc.if_else(pc.is_in(texts, value_set=_MISSING.cast(pa.large_string())), pa.scalar(None), texts)
    if pa.types.is_integer(raw.type) or pa.types.is_decimal(raw.type):
        return raw.cast(pa.large_string())  # all digits: what float64 cannot tell apart is not the same
    if pa.types.is_nested(raw.type) or pa.types.is_binary(raw.type) or isinstance(raw.type, pa.BaseExtensionType):
        raise DataError(f"{name} must hold texts, numbers or times to be compared, got {raw.type}; leave it out there")
    return cast_text(Column(name, "categorical"), raw).values.cast(pa.large_string())
