"""A profile of a data set: what its columns hold, as plain numbers of bounded size, written as versioned JSON.

`profiling.py` makes it from checked rows; `drift.py` compares two, `concerns.py` looks for what bodes ill in one. A
training keeps the profile of its training rows; `corelane data check` prints one and saves it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias, get_args

from corelane.core.errors import StateError
from corelane.core.types import JsonObject, StatedTask
from corelane.data.stages.column import Kind, shorten

MAX_DESCRIBED = 1000  # columns; some 2 KB of JSON each
MAX_BINS = 30  # of a histogram
MAX_TOP = 20  # texts that are counted by name

_VERSION = 2
_OLDER = 1  # had one target or none


@dataclass(frozen=True, slots=True)
class Numbers:
    """What numbers look like: moments (None where float64 cannot hold one), a histogram of bins of one width between
    `edges` (one more than `counts`), and `shares`, how many lie below, between and above the deciles `cuts`.

    Dates are seconds since 1970.
    """

    minimum: float
    mean: float | None
    maximum: float
    deviation: float | None
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    cuts: tuple[float, ...]
    shares: tuple[int, ...]

    def __post_init__(self) -> None:
        limits = [self.minimum, self.maximum, *self.edges, *self.cuts]
        if not all(math.isfinite(value) for value in limits):
            raise StateError(f"the numbers of a stored profile must be finite, got {shorten(limits)}")
        if len(self.edges) != len(self.counts) + 1 or len(self.shares) != len(self.cuts) + 1:
            raise StateError("the bins of a stored profile must have an edge more than counts, got others")


@dataclass(frozen=True, slots=True)
class ColumnSummary:
    """What one column holds in `num_rows` rows; `shape` is that of a tensor or an image.

    `num_distinct` is how many values there are, or at least that many unless `is_exact`. `numbers` is there for numbers
    and dates that have a value; `top` are the most frequent texts of categories with their counts, `num_other` the rows
    with another text, and `rarest` the least frequent one. `are_all_different` says that no text or whole number was
    seen twice.
    """

    name: str
    kind: Kind
    num_rows: int
    num_missing: int
    shape: tuple[int, ...] = ()
    num_distinct: int | None = None
    is_exact: bool = True
    numbers: Numbers | None = None
    top: tuple[tuple[str, int], ...] = ()
    num_other: int = 0
    rarest: tuple[str, int] | None = None
    are_all_different: bool = False

    @property
    def missing_share(self) -> float:
        """The share of rows without a value."""
        return self.num_missing / max(self.num_rows, 1)


@dataclass(frozen=True, slots=True)
class DataProfile:
    """`num_rows` rows, of which the summaries of at most `MAX_DESCRIBED` of `num_columns` columns saw some or all.

    The targets, if there are some, are among the columns; `task` is None without them.
    """

    num_rows: int
    num_columns: int
    columns: tuple[ColumnSummary, ...]
    targets: tuple[str, ...] = ()
    task: str | None = None

    def column(self, name: str | None) -> ColumnSummary | None:
        """The summary of the column of that name, if there is one."""
        return next((column for column in self.columns if column.name == name), None)

    def to_json(self) -> JsonObject:
        """The profile as JSON data."""
        return {"version": _VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, data: Any) -> DataProfile:
        """The profile written by `to_json`. Raises `StateError` for another version or a broken field."""
        if not isinstance(data, Mapping) or data.get("version") not in (_OLDER, _VERSION):
            raise StateError(
                f"a profile must be a JSON object of version {_VERSION}, got {shorten(data)}; "
                "make it anew with `corelane data check --save`"
            )
        try:
            fields = _read_fields(_renewed(data) if data["version"] == _OLDER else data, _PROFILE)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise StateError(f"a stored profile must have the fields of this version, got {shorten(data)}") from error
        del fields["version"]
        return cls(**fields)


# --- reading what was stored ------------------------------------------------------------------------------------------

_Read: TypeAlias = Callable[[Any], Any]
"""Takes a value of JSON if it is of the right sort; raises `TypeError`, `ValueError` or `OverflowError` otherwise."""


def _read_fields(data: Any, readers: Mapping[str, _Read]) -> dict[str, Any]:
    if not isinstance(data, Mapping) or set(data) != set(readers):
        raise ValueError("other fields")
    return {key: read(data[key]) for key, read in readers.items()}


def _renewed(data: Mapping[str, Any]) -> JsonObject:
    """What an earlier release wrote, as this one writes it."""
    fields = dict(data)
    target = fields.pop("target")
    return {**fields, "targets": [] if target is None else [target]}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("neither true nor false")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError("no count")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise TypeError("no finite number")
    return float(value)


def _one_of(known: tuple[str, ...]) -> _Read:
    return lambda value: known[known.index(value)]


def _optional(read: _Read) -> _Read:
    return lambda value: None if value is None else read(value)


def _all(read: _Read) -> _Read:
    def read_all(values: Any) -> tuple[Any, ...]:
        if not isinstance(values, list | tuple):
            raise TypeError("no list")
        return tuple(read(value) for value in values)

    return read_all


def _counted_text(pair: Any) -> tuple[str, int]:
    text, count = pair
    return _text(text), _count(count)


_NUMBERS: Mapping[str, _Read] = {
    "minimum": _number,
    "mean": _optional(_number),
    "maximum": _number,
    "deviation": _optional(_number),
    "edges": _all(_number),
    "counts": _all(_count),
    "cuts": _all(_number),
    "shares": _all(_count),
}
_COLUMN: Mapping[str, _Read] = {
    "name": _text,
    "kind": _one_of(get_args(Kind)),
    "num_rows": _count,
    "num_missing": _count,
    "shape": _all(_count),
    "num_distinct": _optional(_count),
    "is_exact": _flag,
    "numbers": _optional(lambda value: Numbers(**_read_fields(value, _NUMBERS))),
    "top": _all(_counted_text),
    "num_other": _count,
    "rarest": _optional(_counted_text),
    "are_all_different": _flag,
}
_PROFILE: Mapping[str, _Read] = {
    "version": _count,
    "num_rows": _count,
    "num_columns": _count,
    "columns": _all(lambda value: ColumnSummary(**_read_fields(value, _COLUMN))),
    "targets": _all(_text),
    "task": _optional(_one_of(get_args(StatedTask))),
}
