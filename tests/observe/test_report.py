"""The report: one page that needs nothing else, whatever it is given to show."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corelane.observe.report import (
    Bars,
    Chart,
    Facts,
    Histogram,
    Matrix,
    Note,
    Scatter,
    Section,
    Series,
    Table,
    render_report,
)

HOSTILE = "</title></style></svg><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"


def sections(word: str = "loss", number: float = 0.5) -> list[Section]:
    """One of each kind, with `word` wherever a text goes and `number` wherever a number does."""
    return [
        Facts(word, [(word, number), (word, word), (word, None)]),
        Note(word, [word, word], is_warning=True),
        Chart(word, word, word, [Series(word, [1, 2], [number, 1.0]), Series(word, [1, 2], [1.0, number])], note=word),
        Matrix(word, (word, word), (word, word), [[1, 2], [3, 4]], row_title=word, column_title=word, note=word),
        Table(word, (word, word), [(word, number), (word, 1)], note=word),
        Scatter(word, word, word, [1.0, number], [1.0, 2.0], diagonal=True, note=word),
        Histogram(word, [word, word], [0, 2], word, word, note=word),
        Bars(word, [word, word], [3, 0], note=word),
    ]


class Elements(HTMLParser):
    """Collects tags, attributes and the balance of the page."""

    VOID = frozenset({"meta", "br", "img", "link"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_from_elsewhere() -> None:
    """No script, no picture, font or style from another place; a policy in the page forbids them too."""
    page = render_report("Run", "digits", sections())
    elements = Elements(page)
    assert not {"script", "img", "link", "iframe", "object"} & set(elements.tags)
    assert not [name for name, _ in elements.attributes if name in {"src", "href"} or name.startswith("on")]
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_the_page_follows_light_and_dark_and_prints() -> None:
    """Both settings of the reader have their colours, and there is a style for paper."""
    page = render_report("Run", "digits", [])
    assert "@media (prefers-color-scheme: dark)" in page
    assert "@media print" in page


@pytest.mark.parametrize("word", [HOSTILE, "", "größe \U0001f600", "a\nb", "x" * 5000])
def test_text_from_outside_stays_text(word: str) -> None:
    """Column names and labels come from data: in no place do they become markup, and every tag is closed."""
    elements = Elements(render_report(word, word, sections(word)))
    assert elements.open == []
    assert not {"script", "img"} & set(elements.tags)


@settings(max_examples=30)
@given(st.floats())
def test_any_number_can_be_reported(number: float) -> None:
    """Zero, huge, tiny, NaN and infinite values all give a page with finite coordinates."""
    page = render_report("Run", "digits", sections(number=number))
    coordinates = [
        value for name, value in Elements(page).attributes if name in {"d", "cx", "cy", "x", "y", "x1", "y2"}
    ]
    assert not [value for value in coordinates if re.search("nan|inf|e", value.lower())]


def test_sections_keep_their_order_and_leave_no_hole() -> None:
    """A section with nothing beside it takes both columns; two small ones share a row."""
    chart = Chart("A", "x", "y", [Series("a", [1, 2], [1.0, 2.0])])
    wide = Table("Wide", list("abcdef"), [])
    page = render_report("Run", "", [chart, wide, chart, chart, Facts("F", []), chart])
    kinds = re.findall(r'<section class="([a-z ]+)">', page)
    assert kinds == ["chart full", "table full", "chart", "chart", "facts full", "chart full"]


def test_a_long_run_gives_a_small_page() -> None:
    """A hundred thousand steps in four series stay under half a megabyte, with the one spike still in it."""
    steps = range(100_000)
    values = [math.exp(-step / 1e4) for step in steps]
    values[51_234] = 9.5
    page = render_report("Run", "", [Chart("Loss", "step", "loss", [Series(f"s{i}", steps, values) for i in range(4)])])
    assert len(page) < 500_000
    assert ">10</text>" in page


def test_the_same_sections_give_the_same_bytes() -> None:
    """A report can be compared and cached: nothing in it depends on the time or on a hash seed."""
    assert render_report("Run", "digits", sections()) == render_report("Run", "digits", sections())
