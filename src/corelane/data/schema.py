"""The schema: which columns there are, what each may hold, what is predicted, and the check of raw rows against it.

`Schema.check` works column by column on Arrow data and touches single rows only to say why one is refused. Training
quarantines what is refused; serving answers it with a 400. Inference of a schema from data is in `infer.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

import numpy as np
import pyarrow as pa

from corelane.core.errors import ConfigError, DataError, StateError
from corelane.core.types import BoolArray, JsonObject, StatedTask
from corelane.data.stages.cast_array import cast_array
from corelane.data.stages.cast_date import cast_date
from corelane.data.stages.cast_image import cast_image
from corelane.data.stages.cast_numeric import cast_numeric
from corelane.data.stages.cast_tensor import cast_tensor
from corelane.data.stages.cast_text import cast_text
from corelane.data.stages.column import Cast, Column, Kind, Verdict, nearest, shorten

__all__ = ["MAX_COLUMNS", "Checked", "Column", "Kind", "Reject", "Schema"]

MAX_COLUMNS = 10_000  # wider tables belong into one tensor column; each column is an Arrow array of its own per batch

_VERSION = 3
_OLDER = 2  # had one target or none
_CASTS = {
    "numeric": cast_numeric,
    "categorical": cast_text,
    "date": cast_date,
    "tensor": cast_tensor,
    "image": cast_image,
    "array": cast_array,
}


@dataclass(frozen=True, slots=True)
class Reject:
    """One refused row: its `index` in the batch, the first column at fault, a stable `code` and a `reason` in words."""

    index: int
    column: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check made of a batch of n raw rows.

    `rows` are the accepted rows with typed columns: numeric float64 (null = missing), categorical string, or a
    dictionary of strings where the raw column was one (null = missing), date timestamp[us] in UTC (null = missing),
    tensor fixed-shape float32, image fixed-shape uint8 [h, w, c] or binary when encoded, array as `cast_array` says;
    the targets come last. `accepted` [n] marks them; `rejects` holds one entry per refused row, by index.
    """

    rows: pa.RecordBatch
    accepted: BoolArray
    rejects: tuple[Reject, ...]


@dataclass(frozen=True, slots=True)
class Schema:
    """Feature columns in source order, the target columns (none where nothing is predicted), and the task.

    `positive` is the label that counts as positive where there are two; `separator` stands between the labels of one
    text column whose rows have several.
    """

    columns: tuple[Column, ...]
    targets: tuple[Column, ...]
    task: StatedTask
    positive: str | None = None
    separator: str | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.columns) <= MAX_COLUMNS:
            raise ConfigError(
                f"a schema must have 1 to {MAX_COLUMNS} feature columns, got {len(self.columns)}; "
                "exclude columns, or give numbers as one tensor column"
            )
        names = [*self.names, *self.target_names]
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ConfigError(f"column names must be unique, got {twice[0]!r} twice; rename one")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the feature columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def target_names(self) -> tuple[str, ...]:
        """The names of the target columns, in order."""
        return tuple(column.name for column in self.targets)

    def check(self, rows: pa.RecordBatch, *, needs_target: bool) -> Checked:
        """Cast raw `rows` to the schema's types and separate those that fit from those that do not.

        Columns the schema does not know are left out. With `needs_target` the targets must be there, and are the last
        columns of the result. Raises `DataError` when a whole column is absent or ambiguous.
        """
        columns = [*self.columns, *self.targets] if needs_target else list(self.columns)
        typed: list[pa.Array] = []
        accepted = np.ones(rows.num_rows, dtype=np.bool_)
        rejects: dict[int, Reject] = {}
        for column in columns:
            result = _CASTS[column.kind](column, pick_column(rows, column.name))
            typed.append(result.values)
            if result.bad is not None:
                _gather(rejects, column, result, result.bad & accepted)
                accepted &= ~result.bad
        batch = pa.RecordBatch.from_arrays(typed, names=[column.name for column in columns])
        if rejects:
            batch = batch.filter(pa.array(accepted))
        return Checked(batch, accepted, tuple(rejects[index] for index in sorted(rejects)))

    def to_json(self) -> JsonObject:
        """The schema as JSON data."""
        return {
            "version": _VERSION,
            "task": self.task,
            "columns": [column.to_json() for column in self.columns],
            "targets": [column.to_json() for column in self.targets],
            "positive": self.positive,
            "separator": self.separator,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Schema:
        """The schema written by `to_json`. Raises `StateError` for an unknown version or a broken field."""
        if data.get("version") not in (_OLDER, _VERSION):
            raise StateError(
                f"the version of a stored schema must be {_OLDER} or {_VERSION}, got {data.get('version')!r}; "
                "use the version of Corelane that wrote it"
            )
        task = data.get("task")
        tasks = get_args(StatedTask)
        if task not in tasks:
            raise StateError(f"the task of a stored schema must be one of {', '.join(tasks)}, got {task!r}")
        try:
            columns = tuple(Column.from_json(column) for column in data["columns"])
            if data["version"] == _OLDER:
                older = data["target"]
                return cls(columns, () if older is None else (Column.from_json(older),), cast(StatedTask, task))
            targets = tuple(Column.from_json(column) for column in data["targets"])
            positive, separator = (_read_text(data[name]) for name in ("positive", "separator"))
            return cls(columns, targets, cast(StatedTask, task), positive, separator)
        except (KeyError, TypeError, ConfigError) as error:
            raise StateError(f"a stored schema must have columns and a target, got {shorten(data)}") from error


def _read_text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError("no text")
    return value


def pick_column(rows: pa.RecordBatch, name: str) -> pa.Array:
    """The column `name` of raw `rows`. Raises `DataError` when it is absent, or there twice."""
    indices = rows.schema.get_all_field_indices(name)
    if len(indices) == 1:
        return rows.column(indices[0])
    if indices:
        raise DataError(f"column names must be unique, got {name!r} {len(indices)} times; rename them in the data")
    raise DataError(f"the data must have a column {name!r}, got none{nearest(name, rows.schema.names)}")


def _gather(rejects: dict[int, Reject], column: Column, result: Cast, bad: BoolArray) -> None:
    for index in np.flatnonzero(bad).tolist():
        verdict: Verdict = result.explain(index)
        rejects[index] = Reject(index, column.name, verdict.code, verdict.reason)
