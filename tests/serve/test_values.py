"""JSON values to arrays: every type is looked at, and what NumPy would guess is refused."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelane.core.errors import RequestError
from corelane.serve.values import check_integers, encoded_images, flat, numbers, pixels, short, texts


@given(st.lists(st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False)), min_size=1))
def test_numbers_are_exact(elements: list[float]) -> None:
    """Integers and floats come through as the float64 they are."""
    assert numbers(list(elements), "x").tolist() == [float(element) for element in elements]


def test_null_is_a_missing_number() -> None:
    """A null among numbers becomes NaN."""
    assert np.isnan(numbers([1.0, None], "x")[1])


@pytest.mark.parametrize("odd", ["1.5", True, [1.0], {"a": 1}, ""])
def test_what_is_no_number_is_refused_with_its_place(odd: Any) -> None:
    """Text that looks like a number, booleans, lists and objects are named with their position."""
    with pytest.raises(RequestError, match="at position 1"):
        numbers([1.0, odd], "x")


def test_integers_out_of_range_are_refused() -> None:
    """A number that the declared datatype cannot hold is refused, and so is a fraction."""
    check_integers([0, 255, None], "x", np.dtype(np.uint8))
    for bad in (256, -1, 1.5, True, "1", 10**30):
        with pytest.raises(RequestError, match="x must be"):
            check_integers([0, bad], "x", np.dtype(np.uint8))


@pytest.mark.parametrize("odd", [256, -1, 0.5, True, None, "1", 10**30])
def test_pixels_are_bytes(odd: Any) -> None:
    """A pixel is a whole number from 0 to 255 and nothing else."""
    assert pixels([0, 255], "x").tolist() == [0, 255]
    with pytest.raises(RequestError, match="whole numbers from 0 to 255"):
        pixels([0, odd], "x")


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_nested_and_flat_data_are_the_same(shape: list[int]) -> None:
    """Data nested as its shape flattens row-major; flat data is taken as it is."""
    array = np.arange(np.prod(shape)).reshape(shape)
    assert flat(array.tolist(), shape, "x") == array.ravel().tolist()
    assert flat(array.ravel().tolist(), shape, "x") == array.ravel().tolist()


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        (None, [1]),
        ("12", [2]),
        ([1, 2, 3], [2]),
        ([[1, 2], [3]], [2, 2]),
        ([[1, 2], 3], [2, 2]),
        ([[1, 2]], [2, 2]),
        ([[1], [2]], [2]),
        ([[[1]], [[2]]], [2, 1]),
        ([], [1]),
        ([1], [2**31, 2**31, 2**31]),
    ],
)
def test_data_that_is_not_of_its_shape_is_refused(data: Any, shape: list[int]) -> None:
    """Ragged, too deep, too short, absent, or of a shape whose product no machine can hold."""
    with pytest.raises(RequestError):
        numbers(flat(data, shape, "x"), "x")


def test_texts_are_strings_or_null() -> None:
    """Texts pass as they are, null among them; a number is refused."""
    assert texts(["a", None, "\x00é"], "x") == ["a", None, "\x00é"]
    with pytest.raises(RequestError, match="must be strings"):
        texts(["a", 1], "x")


def test_image_files_come_in_base64() -> None:
    """Base64 text becomes bytes; anything else is refused."""
    assert encoded_images([base64.b64encode(b"png").decode()], "x") == [b"png"]
    for bad in ("not base64!", "é", 7, None):
        with pytest.raises(RequestError, match="base64"):
            encoded_images([bad], "x")


def test_a_quoted_value_is_short() -> None:
    """A megabyte of text takes no more than a line of a message."""
    assert len(short("x" * 10**6)) <= 64
    assert len(short([1] * 10**6)) <= 64
