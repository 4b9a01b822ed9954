"""Elements are well formed whatever they are given."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from corelane.observe.drawing.svg import element, number, polyline

# XML has no form for control characters, and HTML, which the page is, does not need one.
XML_TEXT = st.text(alphabet=st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"))


@given(XML_TEXT, XML_TEXT)
def test_text_and_attributes_are_escaped(text: str, value: str) -> None:
    """Markup in a text or an attribute is read back as that text."""
    read = ElementTree.fromstring(element("text", text, class_=value, stroke_dasharray="1 2"))
    assert (read.text or "") == text
    assert read.attrib == {"class": value, "stroke-dasharray": "1 2"}


def test_markup_is_nested_and_not_escaped_again() -> None:
    """An element goes into another one as it is."""
    assert element("g", element("title", "a & b"), x=1.5) == '<g x="1.5"><title>a &amp; b</title></g>'


def test_coordinates_are_short() -> None:
    """Two decimals at most, no trailing zeros: half the page would be digits otherwise."""
    assert [number(value) for value in (1.0, 1.2345, 100.0, -0.5)] == ["1", "1.23", "100", "-0.5"]
    assert polyline([(0, 1), (2.5, 3)]) == "M0 1L2.5 3"
