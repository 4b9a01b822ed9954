"""`data.stages.tokens`: whole numbers pass as int64, the two ways alike; others are refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from corelane.core.errors import ConfigError, RequestError
from corelane.data.config import PipelineConfig
from corelane.data.pipeline import Pipeline, TensorSpec
from corelane.data.schema import Column, Schema

TEXT = Column("text", "tensor", shape=(3,), nullable=False, vocabulary=10)
SCHEMA = Schema((TEXT,), (Column("y", "categorical", nullable=False),), "classification")


def rows(text: list[object]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"text": pa.array(text), "y": pa.array(["a", "b"] * (len(text) // 2))})


@pytest.fixture
def pipeline() -> Pipeline:
    checked = SCHEMA.check(rows([[1, 2, 3], [9, 0, 0]]), needs_target=True)
    return Pipeline.from_json(Pipeline.build(SCHEMA, PipelineConfig()).fit([checked.rows]).to_json())


def test_tokens_are_an_output_of_their_own(pipeline: Pipeline) -> None:
    """int64, with the vocabulary that a network's embedding needs; the numbers are those that came in."""
    assert pipeline.outputs == {"tokens": TensorSpec("int64", (3,), 10)}
    checked = SCHEMA.check(rows([[1, 2, 3], [9, 0, 0]]), needs_target=True)
    tokens = pipeline.transform(checked.rows)["tokens"]
    assert tokens.dtype == np.int64
    assert tokens.tolist() == [[1, 2, 3], [9, 0, 0]]


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.float32, np.float64])
def test_both_ways_take_any_number_type(pipeline: Pipeline, kind: type) -> None:
    """A request may send tokens as floats, as JSON does; the compiled way gives the same int64."""
    values = np.array([[1, 2, 3], [9, 0, 0]], dtype=kind)
    tokens = pipeline.compile().transform({"text": values})["tokens"]
    assert tokens.dtype == np.int64
    assert tokens.tolist() == values.tolist()


@pytest.mark.parametrize("wrong", [10, -1, 2.5, float("nan"), float("inf"), 1e30])
def test_what_is_no_token_is_refused(pipeline: Pipeline, wrong: float) -> None:
    """Beyond the vocabulary, negative, broken or missing: the row is refused with the number, in both ways."""
    reject = SCHEMA.check(rows([[1.0, 2.0, wrong], [1.0, 2.0, 3.0]]), needs_target=True).rejects[0]
    assert (reject.code, reject.index) == ("out_of_vocabulary", 0)
    assert reject.reason == f"text must be whole numbers from 0 to 9, got {wrong:g}"
    with pytest.raises(RequestError, match="row 0: text must be whole numbers from 0 to 9"):
        pipeline.compile().transform({"text": [[1.0, 2.0, wrong]]})


def test_another_length_is_refused() -> None:
    """A row of another length is told apart from one with a wrong token."""
    assert SCHEMA.check(rows([[1, 2], [1, 2, 3]]), needs_target=True).rejects[0].code == "wrong_shape"


@pytest.mark.parametrize(("kind", "shape"), [("tensor", (3, 2)), ("numeric", ()), ("image", (2, 2, 1))])
def test_a_vocabulary_is_for_rows_of_tokens_only(kind: str, shape: tuple[int, ...]) -> None:
    """Declared for another kind or shape it would have no effect, so it is refused."""
    with pytest.raises(ConfigError, match=r"a vocabulary must be declared for a tensor of shape \[length\]"):
        Column("x", kind, shape=shape, vocabulary=5)  # type: ignore[arg-type]
