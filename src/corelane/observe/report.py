"""The report renderer: sections in, one self-contained HTML page out.

The page needs nothing from elsewhere: charts are inline SVG, the style is inline, there is no script. It follows the
reader's light or dark setting and prints. `train` builds the sections; `drawing/` draws them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from corelane.observe.drawing.bars import bar_chart, histogram
from corelane.observe.drawing.lines import legend, line_chart
from corelane.observe.drawing.scatter import scatter_plot
from corelane.observe.drawing.tables import cell_text, chart_data, matrix, table
from corelane.observe.sections import (
    Bars,
    Cell,
    Chart,
    Facts,
    Histogram,
    Matrix,
    Note,
    Scatter,
    Section,
    Series,
    Table,
)

__all__ = [
    "Bars",
    "Cell",
    "Chart",
    "Facts",
    "Histogram",
    "Matrix",
    "Note",
    "Scatter",
    "Section",
    "Series",
    "Table",
    "render_report",
]

HALF_WIDTH, FULL_WIDTH = 500, 1040  # pixels of a drawing in a card that takes one column, or both
MAX_HALF_COLUMNS, MAX_HALF_LABELS = 4, 12  # what is broader takes both columns


@dataclass(frozen=True, slots=True)
class _Card:
    section: Section
    kind: str
    is_full: bool
    body: Markup


def render_report(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The HTML page with `title`, `subtitle` and `sections` in the order given. All text is escaped.

    Facts and notes take the page's width, the others stand in two columns where the window has room.
    """
    cards = [_card(section, is_full) for section, is_full in _laid_out(sections)]
    return _page().get_template("report.html").render(title=title, subtitle=subtitle, cards=cards)


@cache
def _page() -> Environment:
    folder = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = cell_text
    return environment


def _laid_out(sections: Sequence[Section]) -> Iterator[tuple[Section, bool]]:
    """Each section with whether it takes both columns: by its nature, or because nothing would stand beside it."""
    waiting: Section | None = None
    for section in sections:
        if _needs_width(section):
            if waiting is not None:
                yield waiting, True
                waiting = None
            yield section, True
        elif waiting is None:
            waiting = section
        else:
            yield waiting, False
            yield section, False
            waiting = None
    if waiting is not None:
        yield waiting, True


def _needs_width(section: Section) -> bool:
    if isinstance(section, Table):
        return len(section.columns) > MAX_HALF_COLUMNS
    if isinstance(section, Matrix):
        return len(section.column_labels) > MAX_HALF_LABELS
    return isinstance(section, Facts | Note)


def _card(section: Section, is_full: bool) -> _Card:
    width = FULL_WIDTH if is_full else HALF_WIDTH
    match section:
        case Chart():
            names = legend(series.name for series in section.series)
            return _Card(section, "chart", is_full, names + line_chart(section, width) + chart_data(section))
        case Scatter():
            return _Card(section, "chart", is_full, scatter_plot(section, width))
        case Histogram():
            return _Card(section, "chart", is_full, histogram(section, width))
        case Bars():
            return _Card(section, "chart", is_full, bar_chart(section, width))
        case Matrix():
            return _Card(section, "table", is_full, matrix(section))
        case Table():
            return _Card(section, "table", is_full, table(section))
        case Facts():
            return _Card(section, "facts", is_full, Markup(""))
        case Note():
            return _Card(section, "warning" if section.is_warning else "note", is_full, Markup(""))
