"""Copies and repeated values: the first row by position wins, whatever the pieces."""

from __future__ import annotations

from typing import Any

import pytest

from corelane.core.errors import DataError
from corelane.data.judge import RowJudge, rule_keys
from corelane.data.rules import RowRules
from tests.data.examples import batch


def judged(rules: RowRules, data: dict[str, Any], piece: int, budget_bytes: int = 1 << 20) -> list[tuple[bool, int]]:
    """(is a copy, which unique column it repeats) of each row, judged `piece` rows at a time."""
    judge, rows, found = RowJudge(rules, budget_bytes), batch(data), []
    for start in range(0, rows.num_rows, piece):
        part = rows.slice(start, piece)
        judgement = judge.judge(rule_keys(rules, part), part.num_rows)
        found += zip(judgement.is_copy.tolist(), judgement.repeats.tolist(), strict=True)
        assert [index for index, _ in judgement.faults()] == [i for i, r in enumerate(judgement.repeats) if r >= 0]
    return found


@pytest.mark.parametrize("piece", [1, 2, 5, 100])
class TestJudge:
    def test_copies(self, piece: int) -> None:
        """A row that agrees with an earlier one in all compared columns is a copy; nulls agree with nulls."""
        data = {"a": ["x", "x", None, "x", None], "b": [1.0, 2.0, 1.0, 1.0, 1.0]}
        found = judged(RowRules(compared=("a", "b")), data, piece)
        assert found == [(False, -1), (False, -1), (False, -1), (True, -1), (True, -1)]

    def test_repeated_values(self, piece: int) -> None:
        """The first row with a value keeps it, missing values are not compared, the first column at fault is named."""
        data = {"id": ["1", "2", "1", None, None, "2"], "code": [1.0, 2.0, 3.0, 3.0, 4.0, 2.0]}
        found = judged(RowRules(unique=("id", "code")), data, piece)
        assert [repeats for _, repeats in found] == [-1, -1, 0, 1, -1, 0]

    def test_copies_repeat_nothing(self, piece: int) -> None:
        """A copy of the first row is a copy, and not a second row with its number."""
        data = {"id": ["1", "1", "1"], "a": [1.0, 1.0, 2.0]}
        found = judged(RowRules(compared=("id", "a"), unique=("id",)), data, piece)
        assert found == [(False, -1), (True, -1), (False, 0)]


def test_without_rules_no_row_is_looked_at() -> None:
    """No rule, no verdict."""
    assert judged(RowRules(), {"a": [1.0, 1.0]}, 2) == [(False, -1), (False, -1)]


def test_what_is_remembered_is_bounded() -> None:
    """The budget is shared by all that is remembered, and running out of it is an error in words."""
    data = {"a": [float(index) for index in range(100)]}
    assert len(judged(RowRules(unique=("a",)), data, 10, budget_bytes=4000)) == 100
    with pytest.raises(DataError, match="must fit into 2000 bytes"):
        judged(RowRules(compared=("a",), unique=("a",)), data, 10, budget_bytes=4000)
