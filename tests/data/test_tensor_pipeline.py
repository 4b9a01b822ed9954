"""The inputs of somebody else's network as a pipeline: two ways that agree, groups of one shape, and its JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from corelane.core.errors import ConfigError, DataError, RequestError, StateError
from corelane.data.pipeline import Pipeline
from corelane.data.schema import Column
from corelane.data.stages.cast_array import array_column
from corelane.data.tensor_pipeline import TensorPipeline, largest_alike, pipeline_of

TOKENS = Column("tokens", "array", (-1,), nullable=False, dtype="int64")
FLAGS = Column("flags", "array", (2,), nullable=False, dtype="bool")
SCALE = Column("scale", "array", (), nullable=False, dtype="float32")
PIPELINE = TensorPipeline((TOKENS, FLAGS, SCALE))
DATA: dict[str, list[Any]] = {
    "tokens": [[1, 2], [3], [4, 5]],
    "flags": [[True, False], [False, True], [True, True]],
    "scale": [0.5, 1.5, 2.5],
}


def checked(data: dict[str, list[Any]] = DATA) -> pa.RecordBatch:
    return PIPELINE.schema.check(pa.RecordBatch.from_pydict(data), needs_target=False).rows


def test_both_ways_give_the_same_bits() -> None:
    """Arrow's and NumPy's, each input of its own type."""
    rows = checked().take(pa.array([0, 2]))
    columns = PIPELINE.transform(rows)
    few = PIPELINE.compile().transform({name: [values[0], values[2]] for name, values in DATA.items()})
    for name, values in columns.items():
        assert values.dtype == few[name].dtype == np.dtype(PIPELINE.outputs[name].dtype)
        np.testing.assert_array_equal(values, few[name])


def test_rows_are_grouped_by_their_lengths() -> None:
    """The first row's group first; all in one where nothing is free."""
    assert [group.tolist() for group in PIPELINE.alike(checked())] == [[0, 2], [1]]
    fixed = TensorPipeline((SCALE,))
    rows = fixed.schema.check(pa.RecordBatch.from_pydict({"scale": [1.0, 2.0]}), needs_target=False).rows
    assert [group.tolist() for group in fixed.alike(rows)] == [[0, 1]]
    assert largest_alike(PIPELINE, pa.Table.from_batches([checked()])).column("scale").to_pylist() == [0.5, 2.5]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokens": [[1, 2], [3]]}, "tokens must be int64 .* unequal lengths"),
        ({"tokens": [[1.5], [3]]}, r"got 1\.5 in row 0, which it cannot hold"),
        ({"tokens": [["a"], ["b"]]}, "tokens must be int64"),
        ({"tokens": [[], []]}, r"got the shape \[2, 0\]"),
        ({"tokens": [1, 2]}, r"got the shape \[2\]"),
        ({"flags": [[2, 0], [0, 0]]}, "got 2 in row 0"),
        ({"scale": [1.0]}, "same number of rows"),
        ({"scale": [float("nan"), 1.0]}, "got nan in row 0"),
        ({"other": [1, 2]}, "got others: 'other'"),
    ],
)
def test_a_request_that_does_not_fit_is_told(change: dict[str, Any], words: str) -> None:
    """The column, what must be and what was got."""
    columns = {"tokens": [[1], [2]], "flags": [[True, False]] * 2, "scale": [1.0, 2.0], **change}
    with pytest.raises(RequestError, match=words):
        PIPELINE.compile().transform(columns)
    with pytest.raises(RequestError, match="by its name"):
        PIPELINE.compile().transform_matrix(np.zeros((1, 2)))


def test_it_survives_json() -> None:
    """`pipeline_of` tells it from a fitted pipeline by what is stored."""
    again = pipeline_of(json.loads(json.dumps(PIPELINE.to_json())))
    assert isinstance(again, TensorPipeline)
    assert not isinstance(again, Pipeline)
    assert (again.digest, again.schema) == (PIPELINE.digest, PIPELINE.schema)
    for broken in ({"version": 9}, {"schema": {}}, {"max_length": 0}, {"max_length": "9"}):
        with pytest.raises(StateError):
            pipeline_of({**PIPELINE.to_json(), **broken})
    numeric = TensorPipeline((SCALE,)).to_json()
    numeric["schema"]["columns"][0] |= {"kind": "numeric"}
    numeric["schema"]["columns"][0].pop("dtype")
    with pytest.raises(StateError, match="arrays as columns"):
        pipeline_of(numeric)


def test_a_row_is_bounded_as_it_is_offline() -> None:
    """A free length does not mean any: 2^24 elements are the most, both ways."""
    pipeline = TensorPipeline((TOKENS,), max_length=1 << 30)
    with pytest.raises(RequestError, match="at most 16777216 elements"):
        pipeline.compile().transform({"tokens": np.zeros((1, (1 << 24) + 1), dtype=np.int64)})


def test_a_served_free_length_is_bounded() -> None:
    """What a network needs may grow with its square; how long is the import's to say, and kept."""
    pipeline = TensorPipeline((TOKENS,), max_length=5)
    again = pipeline_of(json.loads(json.dumps(pipeline.to_json())))
    for one in (pipeline, again):
        assert one.compile().transform({"tokens": np.zeros((2, 5), dtype=np.int64)})["tokens"].shape == (2, 5)
        with pytest.raises(RequestError, match=r"free length of tokens must be at most 5, got \[2, 6\]"):
            one.compile().transform({"tokens": np.zeros((2, 6), dtype=np.int64)})
    with pytest.raises(ConfigError, match="must be at least 1, got 0"):
        TensorPipeline((TOKENS,), max_length=0)


def test_whole_numbers_keep_every_bit_beside_missing_ones() -> None:
    """A float64 in between would round 2^53 + 1."""
    column = Column("id", "array", (2,), nullable=False, dtype="int64")
    raw = pa.RecordBatch.from_pydict({"id": [[2**53 + 1, -(2**63)], [1, None], [2**63 - 1, 3]]})
    checked = TensorPipeline((column,)).schema.check(raw, needs_target=False)
    assert checked.accepted.tolist() == [True, False, True]
    values = TensorPipeline((column,)).transform(checked.rows)["id"]
    assert values.tolist() == [[2**53 + 1, -(2**63)], [2**63 - 1, 3]]


@pytest.mark.parametrize(
    ("cells", "dtype"), [(["1", " 2 ", "3"], "int64"), (["1", "2.0"], "float32"), (["1e3", "x"], "float32")]
)
def test_numbers_in_words_are_a_column_of_numbers(cells: list[str], dtype: str) -> None:
    """As a CSV has them."""
    column = array_column("x", pa.array(cells))
    assert (column.shape, column.dtype) == ((), dtype)


def test_words_are_no_column_of_numbers() -> None:
    """Not one of them is a number."""
    with pytest.raises(DataError, match="x must hold numbers, or lists of them, got words"):
        array_column("x", pa.array(["a", "b", None]))
