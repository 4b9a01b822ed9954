"""Histograms and bars: heights and lengths follow the counts, and nothing that is there is invisible."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from corelane.observe.drawing.bars import MAX_LABEL_LETTERS, bar_chart, histogram
from corelane.observe.sections import Bars, Histogram


def bars(picture: ElementTree.Element, side: str) -> list[float]:
    return [float(one.get(side, "nan")) for one in picture.iter("rect")]


def test_heights_follow_the_counts() -> None:
    """A bin with twice the rows is twice as high; an empty one has no bar; a single row among many is seen."""
    section = Histogram("age", ["a", "b", "c", "d"], [100_000, 50_000, 0, 1], "0", "40")
    picture = ElementTree.fromstring(histogram(section, 500))
    first, second, last = bars(picture, "height")
    assert first == pytest.approx(2 * second, rel=0.01)
    assert last == 1.0
    assert [text for text in picture.itertext() if text in ("0", "40")] == ["0", "0", "40"]
    assert "d: 1" in list(picture.itertext())


def test_lengths_follow_the_counts() -> None:
    """The longest bar is the largest count, labels that are too long are cut, and each count stands at its end."""
    section = Bars("colour", ["red", "x" * 100], [10, 5])
    picture = ElementTree.fromstring(bar_chart(section, 500))
    first, second = bars(picture, "width")
    assert first == pytest.approx(2 * second, rel=0.01)
    assert "x" * (MAX_LABEL_LETTERS - 1) + "…" in list(picture.itertext())
    assert f"{'x' * 100}: 5" in list(picture.itertext())


def test_nothing_to_draw() -> None:
    """No bin, no label, or only empty ones give an empty picture and no error."""
    for drawing in (
        histogram(Histogram("a", [], [], "0", "1"), 500),
        histogram(Histogram("a", ["b"], [0], "0", "1"), 500),
        bar_chart(Bars("a", [], []), 500),
    ):
        assert not bars(ElementTree.fromstring(drawing), "width")
