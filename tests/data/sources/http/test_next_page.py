"""Where a page leads: by a link in it or in its header, or by a cursor."""

from __future__ import annotations

from typing import Any

import pytest

from corelane.core.errors import DataError
from corelane.data.config import PagingConfig
from corelane.data.sources.http.next_page import MAX_LINK_BYTES, next_target, value_at
from corelane.data.sources.http.target import Target

HERE = Target.parse("https://h/api?size=5&page=a%20b&page=1")


def led(page: Any, link: str = "", **paging: str) -> str | None:
    target = next_target(PagingConfig(**paging), HERE, page, link)
    return None if target is None else target.url


def test_values_lie_at_dotted_paths_and_keys_may_have_dots() -> None:
    """The key itself is looked for before it is taken apart."""
    page = {"a": {"b": [1], "c.d": 2}, "a.b": 3, "@odata.nextLink": "x"}
    assert value_at(page, "a.c.d") == 2
    assert value_at(page, "a.b") == 3
    assert value_at(page, "@odata.nextLink") == "x"
    assert value_at(page, "a.x.y") is None
    assert value_at([1], "a") is None
    assert value_at([1], "") == [1]


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ('</two>; rel="next"', "https://h/two"),
        ('</one>; rel="prev", </two>; rel=next; title="x"', "https://h/two"),
        ('</two>; title="a, b"; rel="last next"', "https://h/two"),
        ('</two>; REL="NEXT"', "https://h/two"),
        ('</two>; rel="nextish"', None),
        ('</two>; rev="next"', None),
        ("", None),
    ],
)
def test_the_link_header(link: str, url: str | None) -> None:
    """The one whose relation is `next`, wherever it stands."""
    assert led({}, link, next_link="header") == url


@pytest.mark.parametrize("last", [None, False, "", 0])
def test_nothing_is_the_end(last: Any) -> None:
    """Whatever an API puts in place of a link or a cursor."""
    assert led({"next": last}, next_link="next") is None
    assert led({"next": last}, next_cursor="next") is None
    assert led({}, next_cursor="next") is None


def test_a_cursor_takes_its_parameters_place() -> None:
    """The other parameters stay as they are written; the cursor is written so that it is one value."""
    assert led({"c": "x&y=1"}, next_cursor="c", cursor_param="page") == "https://h/api?size=5&page=x%26y%3D1"
    assert led({"c": 7}, next_cursor="c") == "https://h/api?size=5&page=a%20b&page=1&cursor=7"


@pytest.mark.parametrize("odd", [True, 1.5, [1], {"a": 1}, "x" * (MAX_LINK_BYTES + 1)])
def test_what_can_be_no_link_is_told(odd: Any) -> None:
    """With the setting that named it."""
    for setting in ("next_link", "next_cursor"):
        with pytest.raises(DataError, match=rf"data\.source\.paging\.{setting} of https://h/api must be"):
            led({"n": odd}, **{setting: "n"})
