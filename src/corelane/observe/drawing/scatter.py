"""Scatter plots, with the line y = x where the plot compares predictions with the truth."""

from __future__ import annotations

import math

from markupsafe import Markup

from corelane.observe.drawing.frame import BOTTOM, HEIGHT, TOP, Frame, tick_width
from corelane.observe.drawing.scale import extent, is_drawable, shown, value_scale
from corelane.observe.drawing.svg import element
from corelane.observe.sections import Scatter

MAX_POINTS = 1500  # more make the page heavy and the cloud no clearer


def scatter_plot(scatter: Scatter, width: float) -> Markup:
    """`scatter` as SVG, `width` pixels wide; pairs with a NaN or infinity are left out."""
    pairs = zip(scatter.x, scatter.y, strict=True)
    points = [(float(x), float(y)) for x, y in pairs if is_drawable(x) and is_drawable(y)]
    frame = _frame(scatter, points, width)
    drawn = _thinned(points, has_diagonal=scatter.diagonal)
    dots = [
        element(
            "circle", element("title", f"{shown(x)}, {shown(y)}"), class_="point", cx=frame.x(x), cy=frame.y(y), r=3
        )
        for x, y in drawn
    ]
    shares = "" if len(drawn) == len(points) else f" ({len(drawn)} of them drawn)"
    return frame.svg(
        scatter.title,
        f"{scatter.y_label} over {scatter.x_label}, {len(points)} points{shares}.",
        frame.draw(scatter.x_label, scatter.y_label),
        *dots,
        *([_diagonal(frame)] if scatter.diagonal else []),
        *_names(frame, scatter),
    )


def _names(frame: Frame, scatter: Scatter) -> list[Markup]:
    """Each beside its point, on the side that has room."""
    middle = (frame.x.low + frame.x.high) / 2
    return [
        element(
            "text",
            name,
            class_="tick",
            x=frame.x(x) + (7 if x <= middle else -7),
            y=frame.y(y) - 6,
            text_anchor="start" if x <= middle else "end",
        )
        for name, x, y in zip(scatter.names, scatter.x, scatter.y, strict=False)
        if is_drawable(x) and is_drawable(y)
    ]


def _thinned(points: list[tuple[float, float]], *, has_diagonal: bool) -> list[tuple[float, float]]:
    # Every k-th point shows the cloud; those farthest from the reference line are what a reader looks for.
    num_outer = MAX_POINTS // 6
    if len(points) <= MAX_POINTS:
        return points
    by_distance = sorted(points, key=lambda point: point[1] - (point[0] if has_diagonal else 0.0))
    outer = {*by_distance[:num_outer], *by_distance[-num_outer:]}
    stride = math.ceil(len(points) / (MAX_POINTS - 2 * num_outer))
    return [point for index, point in enumerate(points) if index % stride == 0 or point in outer]


def _frame(scatter: Scatter, points: list[tuple[float, float]], width: float) -> Frame:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if scatter.diagonal:
        xs = ys = xs + ys
    y = value_scale(*extent(ys), HEIGHT - BOTTOM, TOP)
    x = value_scale(*extent(xs), tick_width(y), width - 16, num_ticks=8 if width > 700 else 5)
    return Frame(x, y, width)


def _diagonal(frame: Frame) -> Markup:
    low, high = max(frame.x.low, frame.y.low), min(frame.x.high, frame.y.high)
    return element("line", class_="reference", x1=frame.x(low), y1=frame.y(low), x2=frame.x(high), y2=frame.y(high))
