"""Line charts: one line per series, a legend for several, and each line's name and last value written at its end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby

from markupsafe import Markup

from corelane.observe.drawing.frame import BOTTOM, HEIGHT, LETTER, TOP, Frame, tick_width
from corelane.observe.drawing.scale import extent, is_drawable, position_scale, shown, value_scale
from corelane.observe.drawing.svg import element, joined, polyline
from corelane.observe.sections import Chart, Series

MAX_POINTS = 600  # per line: more than the pixels there are; extremes are kept
MAX_MARKED_POINTS = 60  # with more, points would touch, and a marker says nothing
NUM_COLOURS = 8  # the style has so many; further lines repeat them dashed
LABEL_DISTANCE = 16  # pixels between the labels at the ends of the lines
MAX_LABEL_LETTERS = 24

Point = tuple[float, float]


def line_chart(chart: Chart, width: float) -> Markup:
    """`chart` as SVG, `width` pixels wide."""
    points = [thinned(series) for series in chart.series]
    finite = [[point for point in line if is_drawable(point[1])] for line in points]
    are_named = len(chart.series) > 1  # a single line is named by the title
    labels = [_label(series.name if are_named else "", line) for series, line in zip(chart.series, finite, strict=True)]
    y = value_scale(*extent(point[1] for line in finite for point in line), HEIGHT - BOTTOM, TOP)
    right = width - max((len(label) for label in labels), default=0) * LETTER - 16
    x = position_scale(
        *extent(point[0] for line in points for point in line), tick_width(y), right, num_ticks=8 if width > 700 else 5
    )
    frame = Frame(x, y, width)
    drawn = [
        _line(frame, line, series.name, index)
        for index, (series, line) in enumerate(zip(chart.series, points, strict=True))
    ]
    names = ", ".join(labels)
    return frame.svg(
        chart.title,
        f"{chart.y_label} over {chart.x_label}. Last values: {names}.",
        frame.draw(chart.x_label, chart.y_label),
        *drawn,
        _end_labels(frame, finite, labels),
    )


def legend(names: Iterable[str]) -> Markup:
    """The names of the lines beside their colours; nothing for a single line, which the title names."""
    items = [
        element("li", element("svg", _stroke("M0 5L18 5", index), viewBox="0 0 18 10", aria_hidden="true"), name)
        for index, name in enumerate(names)
    ]
    return element("ul", *items, class_="legend") if len(items) > 1 else Markup("")


def thinned(series: Series) -> list[Point]:
    """The points of `series`; of a long one the smallest and the largest of each stretch, so that no spike is lost."""
    points = [(float(x), float(y)) for x, y in zip(series.x, series.y, strict=True)]
    if len(points) <= MAX_POINTS:
        return points
    size = math.ceil(len(points) / (MAX_POINTS // 2))
    kept: list[Point] = []
    for start in range(0, len(points), size):
        kept += _extremes(points[start : start + size])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _extremes(stretch: Sequence[Point]) -> list[Point]:
    finite = [index for index, (_, y) in enumerate(stretch) if is_drawable(y)]
    broken = [index for index, (_, y) in enumerate(stretch) if not is_drawable(y)][:1]
    ends = {min(finite, key=lambda i: stretch[i][1]), max(finite, key=lambda i: stretch[i][1])} if finite else set()
    return [stretch[index] for index in sorted({*ends, *broken})]


def _label(name: str, points: Sequence[Point]) -> str:
    short = name if len(name) <= MAX_LABEL_LETTERS else f"{name[: MAX_LABEL_LETTERS - 1]}…"
    return f"{short} {shown(points[-1][1]) if points else '–'}".strip()


def _line(frame: Frame, points: Sequence[Point], name: str, index: int) -> Markup:
    runs = [list(run) for is_finite, run in groupby(points, key=lambda point: is_drawable(point[1])) if is_finite]
    parts = [_stroke(polyline((frame.x(x), frame.y(y)) for x, y in run), index) for run in runs if len(run) > 1]
    alone = [run[0] for run in runs if len(run) == 1]
    marked = [point for run in runs for point in run] if len(points) <= MAX_MARKED_POINTS else alone
    parts += [
        element(
            "circle",
            element("title", f"{name}: {shown(y)} at {shown(x)}"),
            class_=f"dot c{index % NUM_COLOURS}",
            cx=frame.x(x),
            cy=frame.y(y),
            r=3,
        )
        for x, y in marked
    ]
    return joined(parts)


def _stroke(path: str, index: int) -> Markup:
    dashes = ("none", "6 4", "2 4")[min(index // NUM_COLOURS, 2)]
    return element("path", class_=f"line c{index % NUM_COLOURS}", d=path, stroke_dasharray=dashes)


def _end_labels(frame: Frame, lines: Sequence[Sequence[Point]], labels: Sequence[str]) -> Markup:
    ends = sorted((frame.y(line[-1][1]), index) for index, line in enumerate(lines) if line)
    heights = spread([height for height, _ in ends], TOP, HEIGHT - BOTTOM)
    parts = []
    for (end, index), height in zip(ends, heights, strict=True):
        place = frame.x(lines[index][-1][0])
        colour = f"c{index % NUM_COLOURS}"
        parts.append(element("circle", class_=f"end {colour}", cx=place, cy=end, r=4))
        parts.append(element("text", labels[index], class_="direct", x=frame.x.end + 10, y=height + 4))
    return joined(parts)


def spread(heights: Sequence[float], top: float, bottom: float) -> list[float]:
    """Sorted `heights` moved as little as a simple pass allows, so that neighbours are `LABEL_DISTANCE` apart."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + LABEL_DISTANCE if placed else top))
    limit = bottom
    for index in reversed(range(len(placed))):
        placed[index] = min(placed[index], limit)
        limit = placed[index] - LABEL_DISTANCE
    return placed
