"""Histograms of numbers, and bars of categories with their counts written at the end."""

from __future__ import annotations

from markupsafe import Markup

from corelane.observe.drawing.frame import LETTER
from corelane.observe.drawing.scale import Scale, aligned, shown, value_scale
from corelane.observe.drawing.svg import element, joined
from corelane.observe.sections import Bars, Histogram

HISTOGRAM_HEIGHT = 180
TOP, BOTTOM = 10, 24
ROW_HEIGHT = 22  # of one bar with its label
MAX_LABEL_LETTERS = 26
LABEL_LETTER = 7.5  # pixels: what a label is made of may be all capitals and digits, wider than the average
GAP = 1.0  # pixels between the bars of a histogram


def histogram(content: Histogram, width: float) -> Markup:
    """`content` as SVG, `width` pixels wide: bars side by side, the ends of the range below."""
    bottom = HISTOGRAM_HEIGHT - BOTTOM
    most = max(content.counts, default=0)
    y = value_scale(0.0, float(most) or 1.0, bottom, TOP, num_ticks=3)
    ticks = aligned(y.ticks)
    left = max(map(len, ticks)) * LETTER + 10
    parts = [_grid_line(y, tick, label, left, width) for tick, label in zip(y.ticks, ticks, strict=True)]
    step = (width - left) / max(len(content.counts), 1)
    for index, (name, count) in enumerate(zip(content.bins, content.counts, strict=True)):
        if count:
            height = max(bottom - y(count), 1.0)  # a bin that is not empty is seen
            bar = {"x": left + index * step, "y": bottom - height, "width": max(step - GAP, 0.5), "height": height}
            parts.append(element("rect", element("title", f"{name}: {shown(count)}"), class_="bar", **bar))
    base = bottom + 16
    parts.append(element("text", content.low, class_="tick", x=left, y=base))
    parts.append(element("text", content.high, class_="tick", x=width, y=base, text_anchor="end"))
    words = f"{len(content.counts)} bins from {content.low} to {content.high}, at most {shown(most)} in one."
    return _svg(content.title, words, width, HISTOGRAM_HEIGHT, joined(parts))


def bar_chart(content: Bars, width: float) -> Markup:
    """`content` as SVG, `width` pixels wide: one row a label, in the order given."""
    labels = [_shortened(label) for label in content.labels]
    counts = [shown(count) for count in content.counts]
    left = max(map(len, labels), default=0) * LABEL_LETTER + 10
    right = width - max(map(len, counts), default=0) * LETTER - 10
    most = max(content.counts, default=0) or 1
    parts = []
    for index, (label, count, text) in enumerate(zip(labels, content.counts, counts, strict=True)):
        top = index * ROW_HEIGHT
        length = max((right - left) * count / most, 1.0)
        title = element("title", f"{content.labels[index]}: {text}")
        parts.append(element("text", label, title, class_="direct", x=left - 8, y=top + 15, text_anchor="end"))
        parts.append(element("rect", title, class_="bar", x=left, y=top + 4, width=length, height=ROW_HEIGHT - 8))
        parts.append(element("text", text, class_="tick", x=left + length + 6, y=top + 15))
    words = ", ".join(f"{label} {text}" for label, text in zip(labels, counts, strict=True))
    return _svg(content.title, words, width, len(labels) * ROW_HEIGHT + 4, joined(parts))


def _shortened(label: str) -> str:
    return label if len(label) <= MAX_LABEL_LETTERS else f"{label[: MAX_LABEL_LETTERS - 1]}…"


def _grid_line(y: Scale, tick: float, label: str, left: float, width: float) -> Markup:
    height = y(tick)
    line = element("line", class_="grid" if tick else "axis", x1=left, x2=width, y1=height, y2=height)
    return line + element("text", label, class_="tick", x=left - 8, y=height + 4, text_anchor="end")


def _svg(title: str, description: str, width: float, height: float, content: Markup) -> Markup:
    head = (element("title", title), element("desc", description))
    return element("svg", *head, content, viewBox=f"0 0 {width:g} {height:g}", role="img")
