"""Drift: how far the columns of some data have moved away from a profile that was saved before.

The measure is the population stability index, the sum over bins of (a - e) ln(a / e) for the shares a now and e then
(Siddiqi, "Credit Risk Scorecards", 2006, with its usual limits 0.1 and 0.25), which is Jeffreys' divergence of 1946.
Bins are the deciles of the profile, or its most frequent texts and all others together, and one for missing values.
Half a row is added to each bin, so that an empty one costs no infinity. Without any change the index scatters like
(1/n + 1/m) times a chi-squared variable with a degree of freedom less than there are bins (Yurdakul, "Statistical
Properties of Population Stability Index", 2018): what lies below its 99.9 % point is not called a drift.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from corelane.core.types import IntArray
from corelane.data.dataset_profile import MAX_TOP, ColumnSummary, DataProfile
from corelane.data.profiling import Profiler

SHIFTED, CHANGED = 0.1, 0.25

DriftVerdict: TypeAlias = Literal[
    "stable", "too few rows", "shifted", "changed", "other kind", "new", "gone", "unknown"
]

_SPREAD = 3.09  # standard deviations: 99.9 % of a normal distribution lie below


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """How far one column moved: `psi` (None where nothing can be compared), the verdict, by how much the share of
    missing values grew, and texts that the profile did not have.
    """

    name: str
    verdict: DriftVerdict
    psi: float | None = None
    missing_change: float = 0.0
    new_texts: tuple[str, ...] = ()


def drift_from(reference: DataProfile, current: DataProfile, profiler: Profiler) -> tuple[ColumnDrift, ...]:
    """The drift of each column of either; `profiler` is what `current` was made by."""
    now = {column.name: column for column in current.columns}
    drifts = [_drift(column, now.get(column.name), profiler) for column in reference.columns]
    known = {column.name for column in reference.columns}
    return (*drifts, *(ColumnDrift(name, "new") for name in now if name not in known))


def stability_index(expected: IntArray, actual: IntArray) -> float:
    """The population stability index of two counts over the same bins [k]."""
    then, now = expected + 0.5, actual + 0.5
    then, now = then / then.sum(), now / now.sum()
    return float(((now - then) * np.log(now / then)).sum())


def _drift(then: ColumnSummary, now: ColumnSummary | None, profiler: Profiler) -> ColumnDrift:
    if now is None:
        return ColumnDrift(then.name, "gone")
    missing_change = now.missing_share - then.missing_share
    if now.kind != then.kind:
        return ColumnDrift(then.name, "other kind", missing_change=missing_change)
    counts = _counts(then, now, profiler)
    if counts is None:
        return ColumnDrift(then.name, "unknown", missing_change=missing_change)
    expected, actual = counts
    psi = stability_index(expected, actual)
    return ColumnDrift(then.name, _verdict(psi, expected, actual), psi, missing_change, tuple(_new_texts(then, now)))


def _counts(then: ColumnSummary, now: ColumnSummary, profiler: Profiler) -> tuple[IntArray, IntArray] | None:
    """Counts over the bins of `then`, the last one for missing values, then and now; None where one has none."""
    if then.numbers is not None:
        expected = np.array(then.numbers.shares)
        actual = profiler.counts_between(then.name, then.numbers.cuts)
    elif then.top:
        expected = np.array([*(count for _, count in then.top), then.num_other])
        actual = profiler.counts_of(then.name, [text for text, _ in then.top])
    else:
        return None
    expected, actual = _with_missing(expected, then), _with_missing(actual, now)
    return (expected, actual) if expected.sum() and actual.sum() else None


def _with_missing(counts: IntArray, column: ColumnSummary) -> IntArray:
    """`counts` of present values, maybe of a sample, and the missing values that belong to them."""
    num_present = column.num_rows - column.num_missing
    share = counts.sum() / num_present if num_present else 1.0
    return np.append(counts, round(column.num_missing * share))


def _verdict(psi: float, expected: IntArray, actual: IntArray) -> DriftVerdict:
    if psi < SHIFTED:
        return "stable"
    degrees = int(np.count_nonzero(expected + actual)) - 1
    scatter = (1 / expected.sum() + 1 / actual.sum()) * _chi_squared_point(degrees)
    if psi < scatter:
        return "too few rows"
    return "shifted" if psi < CHANGED else "changed"


def _chi_squared_point(degrees: int) -> float:
    """The 99.9 % point of a chi-squared distribution, by Wilson and Hilferty's approximation (1931)."""
    part = 2 / (9 * max(degrees, 1))
    return max(degrees, 1) * (1 - part + _SPREAD * math.sqrt(part)) ** 3


def _new_texts(then: ColumnSummary, now: ColumnSummary) -> Iterator[str]:
    """Frequent texts of now that `then` did not have; unknown where it had more texts than a profile holds."""
    if then.kind != "categorical" or then.num_other or len(then.top) > MAX_TOP:
        return
    known = {text for text, _ in then.top}
    yield from (text for text, _ in now.top if text not in known)
