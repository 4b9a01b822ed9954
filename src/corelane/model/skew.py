"""The skew gate's comparison: do served answers equal those of the training path, within a stated tolerance?

`probe_rows` picks what is asked (missing values and unseen categories among it), `compare` judges. Starting a server
and asking it is the caller's part: `app` hands a `predict(rows)` in. The golden check of every loaded package
compares alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corelane.core.errors import SkewError
from corelane.core.types import Array
from corelane.data.schema import Column
from corelane.data.stages.cast_array import free_arrays
from corelane.data.target import TargetEncoder
from corelane.data.tensor_pipeline import AnyPipeline
from corelane.model.decode import LABEL, LABELS, PROBABILITIES
from corelane.model.predictor import Predictor

MAX_PROBES = 1000  # held-out rows that the gate sends, all if fewer; more find nothing new and cost seconds
HEADROOM = 2.0  # times the largest difference seen: of rows that were not measured, few differ more than the worst
MAX_VARIANTS = 256  # a table of thousands of columns would otherwise make thousands of probes
SMALLEST_UNIT = 1e-6  # of an output of zeros, whose size says nothing about what its sums are made of
UNSEEN = "(a category never seen in training)"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far two answers may lie apart: `absolute` + `relative` times the expected magnitude.

    `by_output` holds the absolute part of those outputs that have one of their own. Whole numbers and booleans have no
    relative part: a class is not nearly another one.
    """

    absolute: float
    relative: float
    by_output: Mapping[str, float] = field(default_factory=dict)

    def allowed(self, name: str, expected: Array) -> Array:
        """How far each number of the output `name` may be from `expected`, float64 in the same shape."""
        relative = self.relative if expected.dtype.kind == "f" else 0.0
        return self.by_output.get(name, self.absolute) + relative * np.abs(expected.astype(np.float64))

    @classmethod
    def fp32(cls, target: TargetEncoder) -> Tolerance:
        """For the same float32 network under another library.

        Summation order alone moves a logit by about 1e-6 of its magnitude (256 terms, 24-bit mantissas), so logits of
        size 50 by 5e-5 and a probability by a quarter of that; 1e-4 leaves room and is far below what a reader of a
        probability sees. A regression's output is standardised, so its bound is in units of the target's deviation.
        """
        unit = target.std if target.task == "regression" else 1.0
        return cls(absolute=1e-4 * unit, relative=1e-3)

    @classmethod
    def of_answers(cls, answers: Mapping[str, Array]) -> Tolerance:
        """For somebody else's float32 network that gave `answers`: the same for each output, in units of the root mean
        square of its finite numbers; nothing for whole numbers and booleans, which must be equal.
        """
        return cls(absolute=0.0, relative=1e-3, by_output={name: _unit(values) for name, values in answers.items()})

    def widened(self, expected: Mapping[str, Array], answers: Sequence[Mapping[str, Array]]) -> Tolerance:
        """For a graph that answers less exactly: this tolerance, and twice the largest difference from `expected` that
        `answers` to the same rows show, one for each runtime that may run it.

        Raises `SkewError` when an answer is not finite: no bound would be wide enough.
        """
        largest = {
            name: max((_difference(expected[name], got[name]) for got in answers), default=0.0)
            for name in _numbers(expected)
        }
        if not all(map(math.isfinite, largest.values())):
            raise SkewError(f"answers of a graph must be finite, got a difference of {largest}; leave the graph out")
        return Tolerance(
            self.absolute + HEADROOM * max(largest.values()),
            self.relative,
            {name: absolute + HEADROOM * largest[name] for name, absolute in self.by_output.items()},
        )


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a passed comparison saw: how many rows, and the largest absolute difference of a number."""

    num_rows: int
    largest_difference: float


def skew_gate(
    reference: Predictor,
    rows: pa.RecordBatch | pa.Table,
    predict: Callable[[pa.RecordBatch], Mapping[str, Array]],
    tolerance: Tolerance,
) -> Agreement:
    """Ask `predict` (the served package) and `reference` (the training path) the same probes and compare.

    `rows` are checked raw rows as `PreparedData.gate` holds them. Raises `SkewError` at the first difference.
    """
    probes = probe_rows(reference.pipeline, rows)
    return compare(reference.predict_table(probes), predict(probes), tolerance)


def probe_rows(pipeline: AnyPipeline, rows: pa.RecordBatch | pa.Table) -> pa.RecordBatch:
    """Up to 1,000 of the checked `rows`, features only, and variants of them.

    In one variant each a nullable column's value is missing, or a category is one that training never saw.
    """
    columns = pipeline.schema.columns
    base = rows.select([column.name for column in columns]).slice(0, MAX_PROBES)
    if not base.num_rows:
        raise SkewError("the skew gate must have at least one row, got none; give it held-out rows")
    variants = [(column, what) for column in columns for what in _variants(column)][:MAX_VARIANTS]
    order = np.concatenate([np.arange(base.num_rows), np.arange(len(variants)) % base.num_rows])
    probes = base.take(pa.array(order))
    arrays = [_varied(probes.column(column.name), column, base.num_rows, variants) for column in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=base.schema)


def compare(expected: Mapping[str, Array], got: Mapping[str, Array], tolerance: Tolerance) -> Agreement:
    """Hold `got` against `expected`, output by output.

    Numbers must be finite and within `tolerance`. Labels must be equal, unless the two classes' probabilities are so
    close that the tolerance allows either order (or, where a row may have several, so close to 0.5). Raises `SkewError`
    naming the row, the output and both values.
    """
    if expected.keys() != got.keys():
        raise SkewError(f"served outputs must be {sorted(expected)}, got {sorted(got)}; train and serve one release")
    largest = 0.0
    for name in _numbers(expected):
        largest = max(largest, _compare_numbers(name, expected[name], np.asarray(got[name]), tolerance))
    if LABEL in expected and PROBABILITIES in expected:
        _compare_labels(expected, got, tolerance)
    if LABELS in expected and PROBABILITIES in expected:
        _compare_label_sets(expected, got, tolerance)
    return Agreement(len(next(iter(expected.values()))), largest)


def raw_columns(rows: pa.RecordBatch) -> dict[str, Any]:
    """Checked `rows` in the form that `Predictor.predict_columns` takes: what a client would have sent.

    Numbers become float64 [n] with NaN for missing, categories lists of str or None, dates lists of datetime or None,
    tensors [n, ...], encoded images lists of bytes.
    """
    return {name: _raw(rows.column(name)) for name in rows.schema.names}


def _raw(column: pa.Array) -> Any:
    if isinstance(column, pa.ExtensionArray):
        return column.to_numpy_ndarray()
    if pa.types.is_struct(column.type):  # an array with free lengths, the same for all of the rows
        return free_arrays(column)
    if pa.types.is_floating(column.type):
        return column.to_numpy(zero_copy_only=False)
    return column.to_pylist()


# --- probes -----------------------------------------------------------------------------------------------------------


def _variants(column: Column) -> list[str]:
    found = []
    if column.nullable and column.kind in ("numeric", "categorical", "date"):
        found.append("missing")
    if column.kind == "categorical" and column.categories is None:
        found.append("unseen")
    return found


def _varied(values: Any, column: Column, num_base: int, variants: list[tuple[Column, str]]) -> pa.Array:
    """`values` with this column's variants written into the rows after the first `num_base`."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    for offset, (varied, what) in enumerate(variants):
        if varied is column:
            mask = np.zeros(len(array), dtype=bool)
            mask[num_base + offset] = True
            array = pc.if_else(pa.array(mask), pa.scalar(UNSEEN if what == "unseen" else None, array.type), array)
    return array


# --- judging ----------------------------------------------------------------------------------------------------------


def _numbers(answers: Mapping[str, Array]) -> list[str]:
    """The outputs whose numbers are compared: not the labels that follow from probabilities."""
    labels = {LABEL, LABELS} if PROBABILITIES in answers else set()
    return [name for name in answers if name not in labels]


def _difference(expected: Array, got: Array) -> float:
    return float(np.max(np.abs(got.astype(np.float64) - expected), initial=0.0))


def _unit(values: Array) -> float:
    """The absolute tolerance of an output that was seen to give `values`."""
    numbers = values[np.isfinite(values)]
    if values.dtype.kind != "f" or not numbers.size:
        return 0.0
    return 1e-4 * max(SMALLEST_UNIT, float(np.sqrt(np.square(numbers, dtype=np.float64).mean())))


def _compare_numbers(name: str, expected: Array, got: Array, tolerance: Tolerance) -> float:
    if expected.shape != got.shape:
        raise SkewError(f"served {name} must have the shape {expected.shape}, got {got.shape}; retrain and package")
    with np.errstate(invalid="ignore"):
        difference = np.abs(got.astype(np.float64) - expected)
    allowed = tolerance.allowed(name, expected)
    within = difference <= allowed
    within &= np.isfinite(expected)  # infinity would tolerate anything; a NaN on either side is within nothing
    if not within.all():
        index = np.unravel_index(int(np.argmin(within)), within.shape)
        raise SkewError(
            f"served {name} of row {index[0]} must be {expected[index]!s} within {allowed[index]:g}, "
            f"got {got[index]!s}; the package is not what was trained"
        )
    return float(difference.max(initial=0.0))


def _compare_labels(expected: Mapping[str, Array], got: Mapping[str, Array], tolerance: Tolerance) -> None:
    differing = np.flatnonzero(np.asarray(expected[LABEL]) != np.asarray(got[LABEL]))
    for row in differing:
        chances = expected[PROBABILITIES][row]
        other = int(np.argmax(got[PROBABILITIES][row]))
        gap = float(chances.max() - chances[other])
        if other == int(np.argmax(chances)) or gap > 2 * (tolerance.absolute + tolerance.relative * chances.max()):
            raise SkewError(
                f"served label of row {row} must be {expected[LABEL][row]!r}, got {got[LABEL][row]!r}; "
                "the package is not what was trained"
            )


def _compare_label_sets(expected: Mapping[str, Array], got: Mapping[str, Array], tolerance: Tolerance) -> None:
    chances = expected[PROBABILITIES]
    is_close = np.abs(chances - 0.5) <= tolerance.absolute + tolerance.relative * chances
    wrong = (expected[LABELS] != np.asarray(got[LABELS])) & ~is_close
    if wrong.any():
        row, label = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        raise SkewError(
            f"served labels of row {row} must be {expected[LABELS][row].tolist()!r}, got the other for number {label}; "
            "the package is not what was trained"
        )
