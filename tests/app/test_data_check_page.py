"""The page of a data check: one file with a drawing a column, and no markup from the data."""

from __future__ import annotations

from pathlib import Path

from corelane.app.data_check import check


def test_the_page_holds_what_the_terminal_says(tmp_path: Path) -> None:
    """Facts, problems, columns, faults, drift and a drawing for each column that has values."""
    lines = ["x,when,colour,y", *(f"{index},2024-01-0{index % 9 + 1},red,{'ab'[index % 2]}" for index in range(90))]
    (tmp_path / "rows.csv").write_text("\n".join([*lines, "broken,2024-01-01,red,a"]))
    source, profile, page = str(tmp_path / "rows.csv"), tmp_path / "profile.json", tmp_path / "page.html"
    check(source, target="y", save=profile)
    answer = check(source, target="y", against=profile, page=page)
    text = page.read_text()
    assert answer["page"] == str(page)
    for words in ("Data check of rows.csv", "target y, classification", "Rows at fault", "Drift from profile.json"):
        assert words in text
    assert "Worth a thought" in text
    assert text.count('role="img"') == 4
    assert "2024-01-09" in text


def test_names_and_labels_stay_text(tmp_path: Path) -> None:
    """A column name or a category that is markup, or steers a terminal, is shown and not obeyed."""
    rows = "".join(f"<b>\x1b[31m{index % 3}</b>,{'ab'[index % 2]}\n" for index in range(20))
    (tmp_path / "rows.csv").write_text("<script>alert(1)</script>,y\n" + rows)
    check(str(tmp_path / "rows.csv"), target="y", page=tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "<script" not in text
    assert "<b>" not in text
    assert "\x1b" not in text


def test_a_table_that_cannot_be_trained_on(tmp_path: Path) -> None:
    """The page says so in a warning, also when no column can be drawn."""
    (tmp_path / "rows.csv").write_text("empty,y\n,a\n,b\n")
    answer = check(str(tmp_path / "rows.csv"), target="y", page=tmp_path / "page.html")
    assert not answer["usable"]
    text = (tmp_path / "page.html").read_text()
    assert "A training could not begin" in text
    assert "empty must have at least one value" in text
