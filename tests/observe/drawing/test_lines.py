"""Line charts: nothing that matters is left out, and labels do not overlap."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelane.observe.drawing.lines import LABEL_DISTANCE, MAX_POINTS, legend, line_chart, spread, thinned
from corelane.observe.drawing.scale import is_drawable
from corelane.observe.sections import Chart, Series


def drawn(*series: Series) -> ElementTree.Element:
    return ElementTree.fromstring(line_chart(Chart("Loss", "epoch", "cross-entropy", series), 500))


def of_class(picture: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [one for one in picture.iter() if name in one.get("class", "").split()]


def test_a_chart_has_axes_ticks_lines_and_direct_labels() -> None:
    """Both axes are named, ticks are round, each series is one line labelled with its name and last value."""
    picture = drawn(Series("training", [1, 2, 3], [0.9, 0.5, 0.2]), Series("validation", [1, 2, 3], [1.0, 0.6, 0.4]))
    assert [one.text for one in of_class(picture, "axis-name")] == ["cross-entropy", "epoch"]
    assert [one.text for one in of_class(picture, "tick")][-3:] == ["1", "2", "3"]
    assert len(of_class(picture, "line")) == 2
    assert [one.text for one in of_class(picture, "direct")] == ["validation 0.4", "training 0.2"]
    assert picture.get("role") == "img"
    assert picture.findtext("title") == "Loss"
    assert "training 0.2, validation 0.4" in (picture.findtext("desc") or "")


def test_points_tell_their_values() -> None:
    """Where points are few, each has a tooltip; a single line is labelled with its value alone."""
    picture = drawn(Series("training", [1, 2], [0.9, 0.5]))
    assert [one.findtext("title") for one in of_class(picture, "dot")] == ["training: 0.9 at 1", "training: 0.5 at 2"]
    assert [one.text for one in of_class(picture, "direct")] == ["0.5"]


def test_what_is_not_finite_breaks_the_line() -> None:
    """A NaN in the middle leaves a gap; a value between two gaps is still a dot."""
    values = [1.0, 0.8, math.nan, 0.5, math.inf, 0.3, 0.2]
    picture = drawn(Series("loss", range(7), values))
    assert len(of_class(picture, "line")) == 2
    assert len(of_class(picture, "dot")) == 5
    assert "nan" not in ElementTree.tostring(picture, "unicode").lower()


@pytest.mark.parametrize(
    "values",
    [
        [],
        [math.nan],
        [0.5],
        [0.0, 0.0],
        [1e299, -1e299],
        [1.7e308, -1.7e308, 1.0],
        [1e-300, 2e-300],
        [5e-324, 1.0],
        [3.0, 3.0000000001],
    ],
)
def test_odd_data_still_give_a_picture(values: list[float]) -> None:
    """Nothing, one value, a constant, the largest and the smallest floats: coordinates stay within the picture."""
    picture = drawn(Series("loss", range(len(values)), values))
    places = [float(one.get("cy", "nan")) for one in of_class(picture, "dot")]
    assert all(0 <= place <= 300 for place in places)
    assert of_class(picture, "tick")


@given(st.integers(MAX_POINTS + 1, 5 * MAX_POINTS), st.dictionaries(st.integers(0, MAX_POINTS), st.floats()))
def test_thinning_keeps_extremes_ends_and_gaps(length: int, odd: dict[int, float]) -> None:
    """A long line keeps its largest and smallest value, its last point and a sign of every broken stretch."""
    values = [odd.get(index, math.sin(index)) for index in range(length)]
    points = thinned(Series("loss", range(len(values)), values))
    finite = [value for value in values if is_drawable(value)]
    kept = [y for _, y in points if is_drawable(y)]
    if finite:
        assert (min(kept), max(kept)) == (min(finite), max(finite))
    assert points[-1][0] == len(values) - 1
    assert any(not is_drawable(y) for _, y in points) == (len(finite) < len(values))
    assert len(points) <= 1.5 * MAX_POINTS + 2


@given(st.lists(st.floats(30, 256), max_size=12))
def test_labels_keep_their_distance(heights: list[float]) -> None:
    """Labels at the ends of the lines stay in order, apart and, while there is room, within the picture."""
    placed = spread(sorted(heights), 30, 256)
    assert all(after - before >= LABEL_DISTANCE - 1e-6 for before, after in pairwise(placed))
    assert all(30 - 1e-6 <= place <= 256 + 1e-6 for place in placed)


def test_a_legend_is_for_several_lines() -> None:
    """One line is named by the title; beyond the colours of the style, lines are dashed."""
    assert legend(["training"]) == ""
    items = legend([f"line {index}" for index in range(9)])
    assert len(re.findall("<li>", items)) == 9
    assert len(re.findall("line c0", items)) == 2
    assert 'stroke-dasharray="6 4"' in items
