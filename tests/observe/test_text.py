"""Untrusted values become JSON data and text that stays on its line."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelane.observe.text import MAX_DEPTH, MAX_ITEMS, MAX_TEXT_LENGTH, one_line, plain, quoted

ANY_TEXT = st.text(alphabet=st.characters())  # lone surrogates too
HARMFUL = {"Cc", "Cs", "Zl", "Zp"}


@given(ANY_TEXT)
def test_no_text_breaks_a_line_or_steers_a_terminal(text: str) -> None:
    """Neither form leaves a control, a separator of lines or a surrogate in place."""
    for safe in (one_line(text), quoted(text)):
        assert not {unicodedata.category(letter) for letter in safe} & HARMFUL


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("größe.α", "größe.α"),
        ("two words", '"two words"'),
        ("", '""'),
        ("a=b", '"a=b"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("x\nlevel=error", '"x\\nlevel=error"'),
        ("\x1b[31mred", '"\\u001b[31mred"'),
        ("user\u202etxt.exe", '"user\\u202etxt.exe"'),
        ("a\u2028b\x85c", '"a\\u2028b\\u0085c"'),
        ("tag\U000e0041", '"tag\\U000e0041"'),
    ],
)
def test_quoting_is_seen_and_unambiguous(text: str, expected: str) -> None:
    """One plain word stays bare; anything that could be taken for another field is quoted."""
    assert quoted(text) == expected


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT, st.lists, max_leaves=20))
def test_plain_data_is_json(value: Any) -> None:
    """Whatever comes in, strict JSON comes out."""
    assert json.dumps(plain(value), allow_nan=False).isascii()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (10**30, hex(10**30)),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.array([1, 2]), [1, 2]),
        (np.zeros((20, 20)), "ndarray of shape (20, 20)"),
        (b"\x00\xff", "b'\\x00\\xff'"),
        (Path("runs") / "a", "runs/a"),
        ({1: {2}}, {"1": [2]}),
        (ValueError("no"), "no"),
    ],
)
def test_foreign_values_are_taken_over(value: Any, expected: Any) -> None:
    """Numbers JSON lacks, arrays, bytes, paths and errors have a fixed form."""
    assert plain(value) == expected


def test_size_is_bounded() -> None:
    """A huge text, list, mapping or nesting costs a bounded line; what was left out is said."""
    assert plain("x" * (MAX_TEXT_LENGTH + 5)).endswith("x... (5 more characters)")
    assert plain(list(range(MAX_ITEMS + 7)))[-1] == "... 7 more"
    assert plain({str(index): index for index in range(MAX_ITEMS + 7)})["..."] == "7 more"
    nested: list[Any] = []
    nested.append(nested)
    assert json.dumps(plain(nested)).count("[") == MAX_DEPTH
