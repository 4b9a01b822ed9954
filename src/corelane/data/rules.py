"""What training asks of rows beyond the schema: no copies, no repeated values, and where rows at fault go.

Serving sees rows one at a time and knows none of this; what it must honour too stands in the schema's columns. Made by
`prepare.py`, read by `checked.py`, `judge.py` and `passes.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from corelane.core.types import JsonObject
from corelane.data.config import DataConfig
from corelane.data.schema import Schema


@dataclass(frozen=True, slots=True)
class RowRules:
    """`compared` are the columns in which copies of a row agree (none: copies are kept), `unique` those in which no
    value may come twice, `dropping` those whose faults leave a row out without a word. `keys` are columns that are read
    for these rules alone (`key_columns.py`): excluded ones.
    """

    compared: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()
    dropping: frozenset[str] = frozenset()
    keys: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: DataConfig, schema: Schema) -> RowRules:
        """The rules that `config` makes for rows of `schema`."""
        used = _names(schema)
        compared: tuple[str, ...] = ()
        if config.deduplicate is not False:
            compared = used if config.deduplicate is True else tuple(config.deduplicate)
        unique = tuple(name for name, column in config.columns.items() if column.unique)
        dropping = frozenset(name for name, column in config.columns.items() if column.on_fault == "drop")
        extra = [name for name in dict.fromkeys([*compared, *unique]) if name not in used]
        return cls(compared, unique, dropping, tuple(extra))

    def to_json(self) -> JsonObject:
        """What decides which rows are left; it enters the key of prepared data."""
        return {
            "compared": list(self.compared),
            "unique": list(self.unique),
            "dropping": sorted(self.dropping),
            "keys": list(self.keys),
        }


def _names(schema: Schema) -> tuple[str, ...]:
    return (*schema.names, *schema.target_names)
