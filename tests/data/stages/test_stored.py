"""Reading stored values back with a clear refusal of anything else."""

from __future__ import annotations

from typing import Any

import pytest

from corelane.core.errors import StateError
from corelane.data.stages.stored import check_version, read_choice, read_floats, read_texts


def test_floats_are_counted_and_finite() -> None:
    """Exactly as many finite numbers as there must be; a boolean is no number."""
    assert read_floats({"x": [0.1, 2]}, "x", 2).tolist() == [0.1, 2.0]
    bad: list[Any] = [[0.1], [0.1, float("nan")], [0.1, True], [0.1, "2"], "ab", None]
    for value in bad:
        with pytest.raises(StateError, match="x of a stored stage must be 2 finite numbers"):
            read_floats({"x": value}, "x", 2)
    with pytest.raises(StateError):
        read_floats({}, "x", 2)


def test_texts_are_distinct() -> None:
    """A list of different texts and nothing else."""
    assert read_texts({"x": ["b", "a"]}, "x") == ("b", "a")
    for value in (["a", "a"], ["a", 1], "ab", None):
        with pytest.raises(StateError, match="x of a stored stage must be distinct texts"):
            read_texts({"x": value}, "x")


def test_choices_and_versions() -> None:
    """Only what this version writes is read."""
    assert read_choice({"x": "a"}, "x", ("a", "b")) == "a"
    with pytest.raises(StateError, match="x of a stored stage must be one of a, b, got 'c'"):
        read_choice({"x": "c"}, "x", ("a", "b"))
    check_version({"version": 1}, 1)
    with pytest.raises(StateError, match="the version of a stored 'numeric' stage must be 1, got 2"):
        check_version({"stage": "numeric", "version": 2}, 1)
