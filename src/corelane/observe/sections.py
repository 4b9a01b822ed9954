"""What a report is made of: frozen values that hold numbers and words, and nothing about how they are drawn.

Built by `train` (and later by others), drawn by `report.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from corelane.core.errors import ConfigError

Cell: TypeAlias = str | int | float | None


@dataclass(frozen=True, slots=True)
class Series:
    """One named line: `x` and `y` of equal length; a NaN or infinity in `y` breaks the line."""

    name: str
    x: Sequence[float]
    y: Sequence[float]

    def __post_init__(self) -> None:
        _check_pairs(self.name, self.x, self.y)


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over a common x axis. `note` stands under the title."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under `columns`; numbers are right-aligned."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def __post_init__(self) -> None:
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ConfigError(
                    f"row {index} of table {self.title!r} must have {len(self.columns)} cells, got {len(row)}"
                )


@dataclass(frozen=True, slots=True)
class Matrix:
    """A confusion matrix: `counts[i][j]` rows of true class `row_labels[i]` were predicted as `column_labels[j]`."""

    title: str
    row_labels: Sequence[str]
    column_labels: Sequence[str]
    counts: Sequence[Sequence[int]]
    row_title: str = "actual"
    column_title: str = "predicted"
    note: str = ""

    def __post_init__(self) -> None:
        shape = (len(self.row_labels), len(self.column_labels))
        ragged = next((len(row) for row in self.counts if len(row) != shape[1]), None)
        if len(self.counts) != shape[0] or ragged is not None:
            got = f"a row of {ragged}" if ragged is not None else str((len(self.counts), shape[1]))
            raise ConfigError(f"counts of matrix {self.title!r} must be of shape {shape}, got {got}")


@dataclass(frozen=True, slots=True)
class Scatter:
    """Points; with `diagonal`, also the line y = x (predicted over actual). `names`, if given, stand beside them."""

    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    y: Sequence[float]
    diagonal: bool = False
    note: str = ""
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        _check_pairs(self.title, self.x, self.y)
        if self.names:
            _check_pairs(self.title, self.names, self.x)


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values lie in each bin; the bins have one width and lie between `low` and `high`, as texts.

    `bins` names each of them.
    """

    title: str
    bins: Sequence[str]
    counts: Sequence[int]
    low: str
    high: str
    note: str = ""

    def __post_init__(self) -> None:
        _check_pairs(self.title, self.bins, self.counts)


@dataclass(frozen=True, slots=True)
class Bars:
    """A bar a label, as long as its count."""

    title: str
    labels: Sequence[str]
    counts: Sequence[int]
    note: str = ""

    def __post_init__(self) -> None:
        _check_pairs(self.title, self.labels, self.counts)


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values: the figures at the head of a report."""

    title: str
    items: Sequence[tuple[str, Cell]]


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph, or several; `is_warning` sets it apart."""

    title: str
    paragraphs: Sequence[str] = field(default=())
    is_warning: bool = False


Section: TypeAlias = Chart | Table | Matrix | Scatter | Histogram | Bars | Facts | Note


def _check_pairs(name: str, x: Sequence[float] | Sequence[str], y: Sequence[float]) -> None:
    if len(x) != len(y):
        raise ConfigError(f"x and y of {name!r} must be of equal length, got {len(x)} and {len(y)}")
