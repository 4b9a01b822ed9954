"""What a profile counts; what the counts mean is tested with inference."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from corelane.core.errors import DataError
from corelane.data.profile import ColumnProfile
from corelane.data.stages.cast_tensor import tensor_array
from corelane.data.target import MAX_LABELS
from tests.data.examples import encoded, picture


def profile(*columns: pa.Array, is_target: bool = False) -> ColumnProfile:
    result = ColumnProfile("x", is_target)
    for column in columns:
        result.update(column)
    return result


def test_counts_present_values_and_numbers_over_batches() -> None:
    """Missing texts count for nothing; numbers are counted among the present values of all batches."""
    seen = profile(pa.array(["1", " NA", None, "abc"]), pa.array(["2.5", "", "1e3"]))
    assert (seen.num_present, seen.num_numbers) == (4, 3)
    assert not seen.is_numeric
    assert profile(pa.array([1.0, float("nan"), None])).num_present == 1
    assert not profile(pa.array(["", None])).is_numeric


def test_labels_are_collected_for_a_target_only_and_bounded() -> None:
    """A target's distinct texts, in the form the check gives them; a flood of them stops being stored."""
    assert profile(pa.array([" a", "TRUE", "a"]), is_target=True).labels == {"a", "true"}
    assert profile(pa.array([1.0, 2.0]), is_target=True).labels == {"1", "2"}
    assert profile(pa.array(["a"])).labels == set()
    flood = [pa.array([f"{batch}-{index}" for index in range(4000)]) for batch in range(8)]
    assert MAX_LABELS < len(profile(*flood, is_target=True).labels) <= MAX_LABELS + 4000


@pytest.mark.parametrize(("values", "are_integers"), [(["1", "2.0"], True), (["1", "2.5"], False), (["1e400"], False)])
def test_knows_whole_numbers(values: list[str], are_integers: bool) -> None:
    """2.0 is a whole number, 2.5 and an overflow are not."""
    assert profile(pa.array(values), is_target=True).are_integers is are_integers


def test_shapes_come_from_the_first_value_that_has_one() -> None:
    """Tensors from their type, lists from the first present row, images from the first that decodes."""
    assert profile(tensor_array(np.zeros((1, 2, 3)))).shape == (2, 3)
    assert profile(pa.array([None], pa.list_(pa.int8())), pa.array([None, [1, 2]], pa.list_(pa.int8()))).shape == (2,)
    assert profile(pa.array([None, b"none", encoded(picture(4, 5, 3))])).image == (4, 5, 3)


def test_bytes_that_are_no_images() -> None:
    """A hundred unreadable files are enough to say that the column holds no images."""
    with pytest.raises(
        DataError, match="x must hold images, got none among its first values; the first of them must be"
    ):
        profile(pa.array([b"none"] * 101 + [encoded(picture(4, 5, 3))]))


@pytest.mark.parametrize("is_target", [False, True])
@pytest.mark.parametrize(
    "texts",
    [
        ["1", " 2 ", None, "2.5", "1", "NA"],
        ["a", "b", None, "a", "", "a"],
        ["2024-01-02", "2024-01-02", "x", None],
        [None, "NA"],
    ],
)
def test_a_dictionary_is_seen_as_its_rows(texts: list[str | None], *, is_target: bool) -> None:
    """Counts, labels and what the column is do not depend on how texts are stored; unused entries do not count."""
    plain, spare = pa.array([*texts, "spare"]), len(texts)
    expected, seen = profile(plain[:spare], is_target=is_target), ColumnProfile("x", is_target)
    seen.update(plain.dictionary_encode()[:spare])
    assert vars(seen) == vars(expected)


def test_declared_categories_are_values() -> None:
    """A declared category that is written like a missing value counts as one, and is a label, dictionary or not."""
    raw = pa.array(["NA", "EU", " NA ", "null", None])
    for values in (raw, raw.dictionary_encode()):
        seen = ColumnProfile("x", is_target=True, declared=["NA", "EU"])
        seen.update(values)
        assert (seen.num_present, seen.labels) == (3, {"NA", "EU"})


def test_labels_that_no_row_will_have() -> None:
    """A time that Python cannot write out is no label: its row will be refused."""
    assert profile(pa.array([0, 2**62], pa.int64()).cast(pa.timestamp("s")), is_target=True).labels == {
        "1970-01-01 00:00:00"
    }
