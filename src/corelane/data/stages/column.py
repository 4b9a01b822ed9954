"""What a column is: its name, kind, shape and limits, and what came of casting it. No data flows here; casts read it.

Every cast answers with a `Cast`: the typed column, which rows it could not take, and a way to say why for one of them.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import pyarrow as pa

from corelane.core.errors import ConfigError, StateError
from corelane.core.types import BoolArray, JsonObject
from corelane.data.stages.pattern import check_pattern

Kind: TypeAlias = Literal["numeric", "categorical", "date", "tensor", "image", "array"]
Outside: TypeAlias = Literal["reject", "clip", "missing"]
Unreadable: TypeAlias = Literal["reject", "missing"]

MAX_NAME_LENGTH = 200  # a name longer than this is a cell that slipped into the header
MAX_CATEGORIES = 100_000  # more are not categories but identifiers
MAX_VOCABULARY = 1 << 24  # tokens arrive as float32 too, which holds whole numbers up to there
MAX_ELEMENTS = 1 << 24  # elements of one tensor or image: 64 MiB of float32 for one row
FREE = -1  # a length of an array that may be another in each row
ARRAY_TYPES = (
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    "float32",
    "float64",
)
"""What the elements of an array may be, by NumPy's names."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `shape` is a tensor's element shape, or (height, width, channels) as the network takes an image.

    `encoded` images arrive as PNG, JPEG... bytes, others as uint8 arrays. With `resize`, images of any size are
    accepted. `minimum` and `maximum` (inclusive) bound a number, and `outside` says what becomes of one beyond them.
    `categories` fixes which texts are known and their order; `pattern` is what a whole text must match; without `trim`
    the spaces around a text belong to it. With `unreadable` "missing", a cell that the column cannot take is a missing
    one and no reason to refuse the row. A tensor of one dimension with a `vocabulary` holds tokens, whole numbers from
    0 to below it. An array is an input of somebody else's network: elements of `dtype` and of a `shape` that may be
    empty (one number) and hold lengths that are `FREE`, and nothing is done to them.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...] = ()
    nullable: bool = True
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] | None = None
    encoded: bool = False
    resize: bool = False
    outside: Outside = "reject"
    unreadable: Unreadable = "reject"
    pattern: str | None = None
    trim: bool = True
    vocabulary: int | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= MAX_NAME_LENGTH:
            raise ConfigError(
                f"a column name must have 1 to {MAX_NAME_LENGTH} characters, got {shorten(self.name)}; rename it"
            )
        if self.kind not in get_args(Kind):
            raise ConfigError(f"the kind of {self.name} must be one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        if self.categories is not None and len(self.categories) > MAX_CATEGORIES:
            raise ConfigError(
                f"{self.name} must have at most {MAX_CATEGORIES} categories, got {len(self.categories)}; declare fewer"
            )
        low, high = (0.0 if bound is None else bound for bound in (self.minimum, self.maximum))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ConfigError(
                f"the bounds of {self.name} must be finite, got {low:g} and {high:g}; leave an open one out"
            )
        if self.trim and any(category != category.strip() for category in self.categories or ()):
            raise ConfigError(f"the categories of {self.name} must not begin or end with spaces; remove them")
        self._check_shape()
        self._check_rules()

    def _check_shape(self) -> None:
        lengths = [length for length in self.shape if self.kind != "array" or length != FREE]
        if any(length < 1 for length in lengths) or math.prod(lengths) > MAX_ELEMENTS:
            raise ConfigError(
                f"the shape of {self.name} must have lengths of at least 1 and at most {MAX_ELEMENTS} elements, "
                f"got {list(self.shape)}"
            )
        if self.kind == "image" and (len(self.shape) != 3 or self.shape[2] not in (1, 3)):
            raise ConfigError(
                f"the shape of the image column {self.name} must be [height, width, 1 or 3 channels], "
                f"got {list(self.shape)}"
            )
        if self.kind == "tensor" and not self.shape:
            raise ConfigError(f"the tensor column {self.name} must have a shape such as [64], got none; declare one")
        if (self.kind == "array") != (self.dtype is not None) or self.dtype not in (None, *ARRAY_TYPES):
            raise ConfigError(
                f"the dtype of {self.name} must be one of {', '.join(ARRAY_TYPES)} for an array and absent for others, "
                f"got {self.dtype!r} for a {self.kind}"
            )
        self._check_vocabulary()

    def _check_vocabulary(self) -> None:
        if self.vocabulary is None:
            return
        if not 0 < self.vocabulary <= MAX_VOCABULARY:
            raise ConfigError(
                f"the vocabulary of {self.name} must have 1 to {MAX_VOCABULARY} tokens, got {self.vocabulary}"
            )
        if self.kind != "tensor" or len(self.shape) != 1:
            raise ConfigError(
                f"a vocabulary must be declared for a tensor of shape [length], got {self.name}, "
                f"a {self.kind} of shape {list(self.shape)}; leave it out"
            )

    def _check_rules(self) -> None:
        if self.outside not in get_args(Outside) or self.unreadable not in get_args(Unreadable):
            raise ConfigError(
                f"outside and unreadable of {self.name} must be reject, missing or (outside) clip, "
                f"got {self.outside!r} and {self.unreadable!r}"
            )
        if "missing" in (self.outside, self.unreadable) and not self.nullable:
            rule = "outside" if self.outside == "missing" else "unreadable"
            raise ConfigError(
                f"{rule} of {self.name} must be another than missing, which a column that must have a value "
                "cannot be; make it nullable, or leave the rule out"
            )
        if self.outside != "reject" and self.minimum is None and self.maximum is None:
            raise ConfigError(
                f"outside of {self.name} must be left out without a minimum or a maximum, got {self.outside!r}"
            )
        if self.pattern is None:
            return
        check_pattern(self.name, self.pattern)
        if self.categories is not None:
            raise ConfigError(f"{self.name} must have either categories or a pattern, got both; leave one out")

    def to_json(self) -> JsonObject:
        """The column as JSON data."""
        stored: JsonObject = {
            "name": self.name,
            "kind": self.kind,
            "shape": list(self.shape),
            "nullable": self.nullable,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "categories": None if self.categories is None else list(self.categories),
            "encoded": self.encoded,
            "resize": self.resize,
            "outside": self.outside,
            "unreadable": self.unreadable,
            "pattern": self.pattern,
            "trim": self.trim,
            "vocabulary": self.vocabulary,
        }
        return stored if self.dtype is None else stored | {"dtype": self.dtype}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Column:
        """The column written by `to_json`. Raises `StateError` when a field is missing, unknown or of another type."""
        try:
            fields = dict(data)
            categories = fields.pop("categories")
            return cls(
                shape=tuple(int(length) for length in fields.pop("shape")),
                categories=None if categories is None else tuple(str(category) for category in categories),
                **fields,
            )
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            raise StateError(f"a stored column must have the fields of this version, got {shorten(data)}") from error


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a cell was not taken: a stable `code` for counting, and a `reason` for a person."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Cast:
    """What a cast made of a raw column of n cells.

    `values` is the typed column [n] (what stands at a bad row is unspecified); `bad` marks the rows it could not take,
    None when it took them all; `explain(row)` gives the reason for a bad row.
    """

    values: pa.Array
    bad: BoolArray | None
    explain: Callable[[int], Verdict]


def missing(column: Column) -> Verdict:
    """The verdict on an absent value in a column that must have one."""
    return Verdict("missing", f"{column.name} must have a value, got none")


def shorten(value: object, limit: int = 60) -> str:
    """`repr` of a value from outside, cut so that a message stays one readable line."""
    if isinstance(value, int) and value.bit_length() > 256:
        return "a whole number of very many digits"  # Python refuses to write some of them out
    try:
        text = repr(value[: limit + 1]) if isinstance(value, str | bytes) else repr(value)
    except ValueError:  # such a number somewhere inside
        text = f"a {type(value).__name__}"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` with the closest known name, or the known names when none is close."""
    names = list(known)
    close = difflib.get_close_matches(name[:MAX_NAME_LENGTH], names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"; known here: {shown}"
