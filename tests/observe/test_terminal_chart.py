"""Curves as text."""

from __future__ import annotations

from corelane.observe.terminal_chart import braille_chart


def test_a_falling_line_falls() -> None:
    """Dots go from the upper left to the lower right, without holes; the extremes are the labels."""
    lines = braille_chart([(x, 10.0 - x) for x in range(11)], width=20, height=3, last_x=10)
    assert lines[0].startswith("       10 ")
    assert lines[2].startswith("        0 ")
    first, last = lines[0][10:], lines[2][10:]
    assert [first[0] != "\u2800", first[-1] != "\u2800"] == [True, False]
    assert [last[0] != "\u2800", last[-1] != "\u2800"] == [False, True]


def test_a_flat_line_and_no_line() -> None:
    """A constant is a line in the middle; without points there are empty lines of the same number."""
    flat = braille_chart([(0, 2.0), (5, 2.0), (10, 2.0)], width=20, height=3, last_x=10)
    assert flat[1][10:].strip("\u2800")
    assert not flat[0][10:].strip("\u2800")
    assert [line[10:].strip("\u2800") for line in braille_chart([], width=20, height=2, last_x=10)] == ["", ""]


def test_it_keeps_to_its_width() -> None:
    """No line is longer than asked for, also in a terminal too narrow for the labels."""
    for width in (5, 12, 80):
        lines = braille_chart([(0, 1.0), (3, 1e-9)], width=width, height=4, last_x=3)
        assert all(len(line) <= max(width, 11) for line in lines)
