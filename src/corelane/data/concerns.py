"""What in a data set bodes ill for training though it can be trained on: found in its profile, told before training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from corelane.data.dataset_profile import ColumnSummary, DataProfile
from corelane.data.stages.column import shorten

RARE_SHARE = 0.01  # of the rows: a label that a batch of a hundred holds once
RARE_ROWS = 10  # rows of a label: too few to learn from and to measure with
EMPTY_SHARE = 0.95  # of the rows without a value
FEWEST_ROWS = 100  # with fewer, values that all differ are no sign of an identifier


@dataclass(frozen=True, slots=True)
class Concern:
    """A stable code, the column, and what is the matter in words."""

    code: str
    column: str
    reason: str


def concerns_of(profile: DataProfile) -> tuple[Concern, ...]:
    """The concerns about the columns of `profile`, in their order."""
    return tuple(
        concern
        for column in profile.columns
        for concern in (_of_target(column, profile) if column.name in profile.targets else _of_feature(column))
    )


def _of_feature(column: ColumnSummary) -> Iterator[Concern]:
    name, seen = column.name, f"{column.num_rows} rows"
    if column.missing_share >= EMPTY_SHARE:
        yield Concern("nearly_empty", name, f"{name} has no value in {column.missing_share:.1%} of {seen}")
    if _is_constant(column):
        shown = shorten(column.top[0][0]) if column.top else f"{column.numbers.minimum:g}" if column.numbers else ""
        where = f"where it has a value in {seen}" if column.num_missing else f"in {seen}"
        yield Concern("constant", name, f"{name} is always {shown} {where}; leave it out with data.exclude")
    elif column.are_all_different and column.num_rows >= FEWEST_ROWS:
        reason = f"{name} has no value twice in what was counted of {seen}; leave an identifier out with data.exclude"
        yield Concern("identifier", name, reason)


def _is_constant(column: ColumnSummary) -> bool:
    if column.numbers is not None:
        return column.numbers.minimum == column.numbers.maximum
    # A missing category is one of its own, which tells something.
    return len(column.top) == 1 and not column.num_other and not column.num_missing


def _of_target(column: ColumnSummary, profile: DataProfile) -> Iterator[Concern]:
    name, total = column.name, column.num_rows - column.num_missing
    if profile.task == "regression":
        if _is_constant(column):
            yield Concern("constant", name, f"the target {name} is always the same, so there is nothing to learn")
        return
    if column.rarest is None:
        return
    label, count = column.rarest
    if count < RARE_ROWS or count < RARE_SHARE * total:
        reason = (
            f"the label {shorten(label)} of {name} has {count} of {total} rows ({count / total:.2%}), few to learn; "
            "gather more, join labels, or watch its recall"
        )
        yield Concern("rare_label", name, reason)
