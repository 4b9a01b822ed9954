"""SVG and HTML elements as text; every attribute and every piece of text is escaped. Used by the rest of `drawing`."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape


def element(tag: str, *content: str | Markup, **attributes: str | float) -> Markup:
    """`<tag ...>content</tag>`. Attribute names lose a trailing underscore (`class_`) and get hyphens for inner ones.

    Content that is not `Markup` is escaped. Numbers are written with at most two decimals: a hundredth of a pixel.
    """
    named = joined(
        Markup(' {}="{}"').format(
            name.rstrip("_").replace("_", "-"), value if isinstance(value, str) else number(value)
        )
        for name, value in attributes.items()
    )
    return Markup("<{}{}>{}</{}>").format(tag, named, joined(escape(part) for part in content), tag)


def joined(parts: Iterable[Markup]) -> Markup:
    """The parts one after the other."""
    return Markup("").join(parts)


def number(value: float) -> str:
    """A coordinate: two decimals at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def polyline(points: Iterable[tuple[float, float]]) -> str:
    """Path data of straight lines through `points` (pixels)."""
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)
