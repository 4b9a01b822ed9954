"""Patterns: whole texts, linear in their length, and refused in words where RE2 does not take them."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest

from corelane.core.errors import ConfigError
from corelane.data.stages.pattern import MAX_PATTERN_LENGTH, check_pattern, matches


@pytest.mark.parametrize(
    ("pattern", "text", "is_match"),
    [
        ("[a-z]+", "abc", True),
        ("[a-z]+", "abc1", False),
        ("[a-z]+", "1abc", False),
        ("[a-z]+", "abc\n", False),
        ("(?m)a$", "a\nb", False),
        ("a|bc", "abc", False),
        ("(?i)ab", "AB", True),
        (r"\p{L}+", "é", True),
        (".", "é", True),
    ],
)
def test_the_whole_text_must_match(pattern: str, text: str, is_match: bool) -> None:
    """No part of a text is enough, whatever alternatives, flags and line breaks there are."""
    check_pattern("x", pattern)
    assert matches(pattern, pa.array([text, None])).tolist() == [is_match, True]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(a", "missing"),
        ("a)|(b", "unexpected|missing"),
        (r"\Qa", "missing"),
        (r"(a)\1", "escape"),
        ("(?=a)", "perl operator|invalid"),
        ("a" * (MAX_PATTERN_LENGTH + 1), "1 to 1000 characters"),
        ("", "1 to 1000 characters"),
        ("(x{1000}){1000}", "repetition|large"),
        ("\ud800", "regular expression"),
    ],
)
def test_what_re2_does_not_take_is_refused(pattern: str, words: str) -> None:
    """Brackets that would leave the anchors, look-arounds, back references, and what unfolds into millions."""
    with pytest.raises(ConfigError, match=f"the pattern of x must .*({words})"):
        check_pattern("x", pattern)


def test_a_hostile_text_takes_linear_time() -> None:
    """A pattern that takes a backtracking engine longer than the universe has existed is matched at once."""
    start = time.perf_counter()
    assert not matches("(a+)+b", pa.array(["a" * 1000]))[0]
    assert time.perf_counter() - start < 1.0
