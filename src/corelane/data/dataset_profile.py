"""A profile of a data set: what its columns hold, as plain numbers of bounded size, written as versioned JSON.

`profiling.py` makes it from checked rows; `drift.py` compares two, `concerns.py` looks for what bodes ill in one. A
training keeps the profile of its training rows; `corelane data check` prints one and saves it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

from corelane.core.errors import StateError
from corelane.core.types import JsonObject
from corelane.data.stages.column import Kind, shorten

MAX_DESCRIBED = 1000  # columns; some 2 KB of JSON each
MAX_BINS = 30  # of a histogram
MAX_TOP = 20  # texts that are counted by name

_VERSION = 1


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

    The target, if there is one, is among the columns; `task` is None without it.
    """

    num_rows: int
    num_columns: int
    columns: tuple[ColumnSummary, ...]
    target: str | None = None
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
        if not isinstance(data, Mapping) or data.get("version") != _VERSION:
            raise StateError(
                f"a profile must be a JSON object of version {_VERSION}, got {shorten(data)}; "
                "make it anew with `corelane data check --save`"
            )
        try:
            fields = {key: value for key, value in data.items() if key not in ("version", "columns")}
            return cls(columns=tuple(_read_column(column) for column in data["columns"]), **fields)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StateError(f"a stored profile must have the fields of this version, got {shorten(data)}") from error


def _read_column(data: Mapping[str, Any]) -> ColumnSummary:
    fields = dict(data)
    numbers = fields.pop("numbers")
    top = tuple(_read_count(pair) for pair in fields.pop("top"))
    rarest = fields.pop("rarest")
    if fields["kind"] not in get_args(Kind):
        raise ValueError("no kind of column")
    return ColumnSummary(
        numbers=None if numbers is None else _read_numbers(numbers),
        top=top,
        shape=tuple(int(length) for length in fields.pop("shape")),
        rarest=None if rarest is None else _read_count(rarest),
        **fields,
    )


def _read_count(pair: Any) -> tuple[str, int]:
    text, count = pair
    return str(text), int(count)


def _read_numbers(data: Mapping[str, Any]) -> Numbers:
    fields = dict(data)
    floats = {key: tuple(float(value) for value in fields.pop(key)) for key in ("edges", "cuts")}
    counts = {key: tuple(int(value) for value in fields.pop(key)) for key in ("counts", "shares")}
    moments = {key: None if value is None else float(value) for key, value in fields.items()}
    return Numbers(**floats, **counts, **moments)  # type: ignore[arg-type]
