"""Keys of rows: equal for equal typed values, however they are stored, and different otherwise."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corelane.data.row_keys import row_keys
from tests.data.examples import batch, encoded, picture


def keys(values: Any) -> list[tuple[int, ...]]:
    return [tuple(key) for key in row_keys(batch({"x": values}), ["x"]).T.tolist()]


@given(texts=st.lists(st.one_of(st.none(), st.text(max_size=40), st.sampled_from(["", "a", "a\0", "\0", "aaaaaaaa"]))))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_texts(texts: list[str | None]) -> None:
    """Two texts have one key if and only if they are the same; a null is no text; dictionaries and slices alike."""
    column = pa.array(texts, pa.string())
    found = keys(column)
    for text, key in zip(texts, found, strict=True):
        assert [other == key for other in found] == [other == text for other in texts]
    assert keys(column.dictionary_encode()) == found
    assert keys(pa.concat_arrays([pa.array(["before"]), column]).slice(1)) == found


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1.0, -1.0, 1e300, 5e-324, None, 0.0]),
        pa.array([datetime.datetime(2024, 1, 1), datetime.datetime(1, 1, 1), None], pa.timestamp("us")),
        np.arange(12, dtype=np.float32).reshape(4, 3),
        np.arange(3 * 700, dtype=np.float32).reshape(3, 700),
        np.stack([picture(4, 5, 3, seed) for seed in range(3)]),
        pa.array([encoded(picture(4, 5, 3, seed)) for seed in range(3)], pa.binary()),
        pa.array([], pa.string()).dictionary_encode(),
        pa.array([], pa.float64()),
    ],
    ids=["numbers", "times", "vectors", "long vectors", "pixels", "files", "no texts", "no numbers"],
)
def test_every_kind(values: Any) -> None:
    """Different values of every kind of column have different keys, and the same ones the same."""
    found = keys(values)
    assert len(set(found)) == len(found) == len(values)
    assert keys(values) == found


def test_zero_has_one_key() -> None:
    """-0.0 equals 0.0, in a column and in a tensor."""
    assert len(set(keys(pa.array([0.0, -0.0])))) == 1
    assert len(set(keys(np.array([[0.0, 1.0], [-0.0, 1.0]], dtype=np.float32)))) == 1


def test_columns_are_told_apart() -> None:
    """The same values in other columns make another row, and columns that are not named do not count."""
    rows = batch({"a": ["x", "y", "x", "x"], "b": ["y", "x", "y", None], "c": [1.0, 2.0, 3.0, 4.0]})
    first, swapped, again, null = row_keys(rows, ["a", "b"]).T.tolist()
    assert first == again
    assert len({tuple(first), tuple(swapped), tuple(null)}) == 3


def test_a_million_rows_have_a_million_keys() -> None:
    """No two of a million neighbouring numbers and of a million pairs share a key, nor one of its two halves."""
    numbers = np.arange(1_000_000, dtype=np.float64)
    for names in (["a"], ["a", "b"]):
        found = row_keys(batch({"a": numbers, "b": numbers[::-1].copy()}), names)
        assert all(len(np.unique(lane)) == len(numbers) for lane in found)
