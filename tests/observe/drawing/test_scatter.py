"""Scatter plots: outliers stay, comparison plots have the line of equality."""

from __future__ import annotations

import math
from xml.etree import ElementTree

from corelane.observe.drawing.scatter import MAX_POINTS, scatter_plot
from corelane.observe.sections import Scatter


def of_class(picture: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [one for one in picture.iter() if one.get("class") == name]


def test_a_comparison_has_equal_axes_and_the_diagonal() -> None:
    """Predicted over actual: a perfect prediction lies on the dashed line, and what is not finite is left out."""
    section = Scatter("Fit", "actual", "predicted", [1.0, 2.0, 3.0, math.nan], [1.0, 2.0, 3.0, 1.0], diagonal=True)
    picture = ElementTree.fromstring(scatter_plot(section, 500))
    (line,) = of_class(picture, "reference")
    x1, y1, x2, y2 = (float(line.get(name, "nan")) for name in ("x1", "y1", "x2", "y2"))
    points = of_class(picture, "point")
    assert len(points) == 3
    for point in points:
        share = (float(point.get("cx", "nan")) - x1) / (x2 - x1)
        assert abs(float(point.get("cy", "nan")) - (y1 + share * (y2 - y1))) < 0.05


def test_residuals_are_drawn_around_zero() -> None:
    """Where values lie on both sides of 0, the line at 0 is drawn as an axis, and there is no diagonal."""
    picture = ElementTree.fromstring(scatter_plot(Scatter("Residuals", "a", "b", [1, 2], [-1.0, 1.0]), 500))
    assert of_class(picture, "reference") == []
    horizontal = [one for one in of_class(picture, "axis") if one.get("y1") == one.get("y2")]
    assert len(horizontal) == 2


def test_many_points_are_thinned_but_no_outlier() -> None:
    """The page stays small, and the one prediction that is far off is still on it."""
    x = [float(index) for index in range(20_000)]
    residuals = [math.sin(value) for value in x]
    residuals[7] = 50.0
    text = scatter_plot(Scatter("Residuals", "predicted", "residual", x, residuals), 500)
    num_drawn = text.count("<circle")
    assert num_drawn <= MAX_POINTS
    assert "<title>7, 50</title>" in text
    assert f"20000 points ({num_drawn} of them drawn)" in text


def test_names_stand_beside_their_points() -> None:
    """Each point that is drawn has its name, on the side where there is room."""
    section = Scatter("Quality", "rows/s", "quality", [1.0, 9.0, math.nan], [0.9, 0.8, 1.0], names=["a", "b", "c"])
    picture = ElementTree.fromstring(scatter_plot(section, 500))
    texts = {one.text: one for one in picture.iter() if one.text in ("a", "b", "c")}
    assert set(texts) == {"a", "b"}
    assert (texts["a"].get("text-anchor"), texts["b"].get("text-anchor")) == ("start", "end")
