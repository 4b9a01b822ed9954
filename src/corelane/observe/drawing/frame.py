"""What line charts and scatter plots share: the plot area, grid lines, ticks and the axes' names."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from corelane.observe.drawing.scale import Scale, aligned
from corelane.observe.drawing.svg import element, joined

HEIGHT = 300
TOP, BOTTOM = 30, 44  # pixels for the y axis' name above, for ticks and the x axis' name below
LETTER = 6.6  # average width of a character at the chart's font size, in pixels


@dataclass(frozen=True, slots=True)
class Frame:
    """The axes of one plot: `x` runs left to right, `y` bottom to top."""

    x: Scale
    y: Scale
    width: float

    def draw(self, x_label: str, y_label: str) -> Markup:
        """Grid, ticks and names of the axes."""
        left, right, bottom = self.x.start, self.x.end, self.y.start
        parts = [element("text", y_label, class_="axis-name", x=0, y=12)]
        for tick, label in zip(self.y.ticks, aligned(self.y.ticks), strict=True):
            height = self.y(tick)
            kind = "axis" if tick in (0, self.y.low) else "grid"
            parts.append(element("line", class_=kind, x1=left, x2=right, y1=height, y2=height))
            parts.append(element("text", label, class_="tick", x=left - 8, y=height + 4, text_anchor="end"))
        for tick, label in zip(self.x.ticks, aligned(self.x.ticks), strict=True):
            place = self.x(tick)
            parts.append(element("line", class_="axis", x1=place, x2=place, y1=bottom, y2=bottom + 4))
            parts.append(element("text", label, class_="tick", x=place, y=bottom + 18, text_anchor="middle"))
        middle = (left + right) / 2
        parts.append(element("text", x_label, class_="axis-name", x=middle, y=HEIGHT - 6, text_anchor="middle"))
        return joined(parts)

    def svg(self, title: str, description: str, *content: Markup) -> Markup:
        """The whole picture, described for those who do not see it."""
        return element(
            "svg",
            element("title", title),
            element("desc", description),
            *content,
            viewBox=f"0 0 {self.width:g} {HEIGHT}",
            role="img",
        )


def tick_width(scale: Scale) -> float:
    """Pixels that the widest tick of `scale` takes, with its distance to the axis."""
    return max(map(len, aligned(scale.ticks))) * LETTER + 10
