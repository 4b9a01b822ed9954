"""Tables, the confusion matrix and the numbers behind a chart, as HTML: they can be read aloud, copied and printed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from numbers import Real

from markupsafe import Markup

from corelane.observe.drawing.scale import aligned, shown
from corelane.observe.drawing.svg import element
from corelane.observe.sections import Cell, Chart, Matrix, Table

MAX_DECIMALS = 4  # of the numbers of one column
STRONG_SHARE = 0.7  # from here on the shade is dark enough for white letters
MAX_DATA_ROWS = 40  # of the table under a chart; a longer one is read from metrics.jsonl

_QUANTITY = re.compile(r"[-−+]?\d[\d.,]*(\s?\S{1,6})?|–")  # "12.5 %" and "3 ms" belong to the right like numbers


def table(content: Table) -> Markup:
    """`content` with the numbers of a column (but the first) to the right, and with equally many decimals."""
    columns = [_column([row[index] for row in content.rows]) for index in range(len(content.columns))]
    sides = [side if index else "text" for index, (side, _) in enumerate(columns)]  # the first column names the row
    head = [element("th", name, scope="col", class_=side) for name, side in zip(content.columns, sides, strict=True)]
    rows = [
        element("tr", *(element("td", text, class_=side) for text, side in zip(texts, sides, strict=True)))
        for texts in zip(*(texts for _, texts in columns), strict=True)
    ]
    return element("table", element("thead", element("tr", *head)), element("tbody", *rows))


def matrix(content: Matrix) -> Markup:
    """`content` with each cell shaded by its share of the row, so that a rare class is seen as well as a common one."""
    corner = element("th", f"{content.row_title} ↓ {content.column_title} →", class_="corner")
    head = [element("th", label, scope="col") for label in content.column_labels]
    rows = [
        element("tr", element("th", label, scope="row"), *_shaded(content, label, counts))
        for label, counts in zip(content.row_labels, content.counts, strict=True)
    ]
    return element("table", element("thead", element("tr", corner, *head)), element("tbody", *rows), class_="matrix")


def chart_data(chart: Chart) -> Markup:
    """The numbers of `chart`, folded away; at most `MAX_DATA_ROWS` rows, evenly picked."""
    places = sorted({float(x) for series in chart.series for x in series.x})
    step = -(-len(places) // MAX_DATA_ROWS) or 1
    picked = sorted({*places[::step], *places[-1:]})
    values = [dict(zip(map(float, series.x), series.y, strict=True)) for series in chart.series]
    rows = [(place, *(float(line[place]) if place in line else None for line in values)) for place in picked]
    content = Table(chart.title, (chart.x_label, *(series.name for series in chart.series)), rows)
    label = "Numbers" if len(picked) == len(places) else f"Numbers ({len(picked)} of {len(places)} rows)"
    return element("details", element("summary", label), element("div", table(content), class_="scroll"))


def cell_text(cell: Cell) -> str:
    """A cell for a reader."""
    if cell is None:
        return "–"
    return cell if isinstance(cell, str) else shown(float(cell))


def _shaded(content: Matrix, label: str, counts: Sequence[int]) -> list[Markup]:
    total = sum(counts) or 1
    return [
        element(
            "td",
            shown(count) if count else "·",
            class_="strong" if count / total > STRONG_SHARE else "weak" if count else "none",
            style=f"--share:{count / total:.3f}",
            title=f"{content.row_title} {label}, {content.column_title} {column}: {count} ({count / total:.1%})",
        )
        for column, count in zip(content.column_labels, counts, strict=True)
    ]


def _column(cells: Sequence[Cell]) -> tuple[str, list[str]]:
    """The side on which a column's cells stand (`number` or `text`), and their texts."""
    if all(cell is None or isinstance(cell, Real) for cell in cells):
        numbers = iter(aligned([float(cell) for cell in cells if cell is not None], MAX_DECIMALS))
        return "number", [cell_text(cell) if cell is None else next(numbers) for cell in cells]
    texts = [cell_text(cell) for cell in cells]
    return "number" if all(_QUANTITY.fullmatch(text) for text in texts) else "text", texts
