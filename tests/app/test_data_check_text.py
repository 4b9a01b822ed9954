"""The text of a data check: everything that was found, in lines that fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from corelane.app.data_check import check
from corelane.app.data_check_text import MAX_SHOWN, check_text


def test_everything_is_said(tmp_path: Path) -> None:
    """Counts, a line a column with its target marked, faults, notes, problems and the verdict."""
    lines = ["x,constant,y", *(f"{index},c,{'ab'[index % 2]}" for index in range(200)), "broken,c,a"]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    text = check_text(check(str(tmp_path / "rows.csv"), target="y"))
    assert "rows          201" in text
    assert "refused       1 (0.5 %)" in text
    assert "y (target)" in text
    assert "x must be a number, got 'broken'" in text
    assert "note: constant is always 'c'" in text
    assert text.endswith("usable: yes")
    assert all(len(line) <= 400 for line in text.splitlines())


@pytest.mark.parametrize("num_columns", [MAX_SHOWN - 1, MAX_SHOWN + 50])
def test_wide_tables_are_cut_and_say_so(tmp_path: Path, num_columns: int) -> None:
    """A terminal gets a hundred columns; how many more there are is told."""
    names = [f"c{index}" for index in range(num_columns)]
    values = [",".join(str(row * 10 + index % 7) for index in range(num_columns)) for row in range(20)]
    (tmp_path / "rows.csv").write_text("\n".join([",".join(names), *values]))
    text = check_text(check(str(tmp_path / "rows.csv")))
    assert ("… and 50 more columns" in text) == (num_columns > MAX_SHOWN)
    assert f"columns       {num_columns}" in text
