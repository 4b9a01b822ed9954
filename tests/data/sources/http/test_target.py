"""URLs taken apart once: no two readers can disagree about where a request goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelane.core.errors import DataError
from corelane.data.sources.http.target import Target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("https://example.org", Target("https", "example.org", 443, "/")),
        ("HTTPS://Example.ORG/A/b?c=d#e", Target("https", "example.org", 443, "/A/b?c=d")),
        ("http://u:p@h:8080/x", Target("http", "h", 8080, "/x")),
        ("http://[::1]:80/x", Target("http", "::1", 80, "/x")),
        ("https://h/a b\u00e9", Target("https", "h", 443, "/a%20b%C3%A9")),
        ("https://h/a%20b", Target("https", "h", 443, "/a%20b")),
        ("http://h:0/", Target("http", "h", 0, "/")),
    ],
)
def test_the_parts_of_a_url(text: str, target: Target) -> None:
    """Scheme and host in lower case, the port that stands for the scheme, path and query as they are sent."""
    assert Target.parse(text) == target


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "example.org",
            "//h/x",
            "file:///etc/passwd",
            "gopher://h",
            "https:///x",
            "https://h:99999/",
            "https://[h/",
        ),
        *(
            "https://h\\@evil/",
            "https://b\u00fccher.example/",
            "https://h\u2024org/",
            "http://a b/",
            "https://" + "h" * 300,
        ),
    ],
)
def test_what_is_no_url_of_a_host_is_refused(text: str) -> None:
    """Other schemes, no host, ports beyond the last, and letters that two libraries might read as two hosts."""
    with pytest.raises(DataError, match="a URL must"):
        Target.parse(text)


@given(st.text(max_size=40))
def test_any_text_is_a_target_or_refused(text: str) -> None:
    """Nothing else happens, and what is parsed parses to itself again."""
    for candidate in (text, f"https://{text}", f"https://h/{text}"):
        try:
            target = Target.parse(candidate)
        except DataError:
            continue
        assert Target.parse(target.url) == target
        assert target.path.isascii()
        assert not set("\r\n \t#") & set(target.path)


@pytest.mark.parametrize(
    ("reference", "url"),
    [
        ("/x", "https://h:1/x"),
        ("x?y", "https://h:1/a/x?y"),
        ("//other/x", "https://other/x"),
        ("http://other:2/", "http://other:2/"),
        ("?p=2", "https://h:1/a/b?p=2"),
    ],
)
def test_references_are_joined(reference: str, url: str) -> None:
    """Relative ones, and those to other hosts."""
    assert Target.parse("https://h:1/a/b?c").join(reference).url == url


def test_what_may_be_shown_has_no_query_and_no_login() -> None:
    """Tokens stand in both."""
    target = Target.parse("https://u:geheim@h/x?token=geheim")
    assert target.shown == "https://h/x"
    assert target.authority == "h"
    assert "u:" not in target.url
    assert Target.parse("http://[::1]:8/x").authority == "[::1]:8"
