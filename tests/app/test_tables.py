"""Text for a terminal: aligned, bounded, and safe whatever a name holds."""

from __future__ import annotations

from corelane.app.tables import cell, cut, facts_text, table_text


def test_tables_are_aligned() -> None:
    """Texts stand to the left and numbers to the right; a missing cell is empty."""
    lines = table_text(["name", "rows"], [["a", 5], ["long name", 1000], ["b", None]], 80).splitlines()
    assert lines[0] == "name        rows"
    assert lines[2:] == ["a              5", "long name   1000", "b"]


def test_what_users_wrote_steers_no_terminal() -> None:
    """Escapes and line breaks are written out, and long texts are cut."""
    assert cell("a\x1b[31m\nb") == "a\\u001b[31m\\u000ab"
    assert len(cell("x" * 1000)) == 60
    assert cut("x" * 10, 5) == "xxxx…"
    assert facts_text({"a": "x\ny", "b": None}) == "a             x\\u000ay"
