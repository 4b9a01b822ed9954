"""Joining stages into one output."""

from __future__ import annotations

import numpy as np

from corelane.data.stages.affine import Affine
from corelane.data.stages.blocks import Block
from corelane.data.stages.categorical import FittedCategorical
from corelane.data.stages.column import Column
from corelane.data.stages.numeric import FittedNumeric
from corelane.data.stages.protocol import TensorSpec
from tests.data.examples import batch

NUMBER = FittedNumeric((Column("a", "numeric"),), Affine(np.zeros(1), np.ones(1)), np.zeros(1))
COLOUR = FittedCategorical(Column("c", "categorical"), ("red",), "one_hot")


def test_vectors_stand_side_by_side() -> None:
    """The width is the sum of the stages' widths, in their order, in both ways."""
    block = Block("features", (NUMBER, COLOUR))
    assert block.spec == TensorSpec("float32", (3,))
    expected = [[7.0, 0.0, 1.0]]
    assert block.transform(batch({"a": [7.0], "c": ["red"]})).tolist() == expected
    few = block.transform_few({"a": [7.0], "c": ["red"]}, 1)
    assert few is not None
    assert few.tolist() == expected


def test_one_stage_that_declines_declines_for_all() -> None:
    """The caller takes the columns way for the whole row, never half a row."""
    assert Block("features", (COLOUR, NUMBER)).transform_few({"a": ["7"], "c": ["red"]}, 1) is None


def test_a_single_stage_is_not_copied() -> None:
    """One stage's array is the output itself."""
    block = Block("features", (NUMBER,))
    assert block.spec.shape == (1,)
    assert block.transform(batch({"a": [1.0, 2.0]})).tolist() == [[1.0], [2.0]]
