"""A foreign graph on rows: each row has an answer, and it is its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from corelane.core.errors import BundleError, ConfigError, MemoryBudgetError
from corelane.model.foreign.inspecting import inspected
from corelane.model.foreign.trying import answers_of, neutral_rows, opened, varied_rows
from tests.model.foreign import graphs
from tests.model.foreign.graphs import FLOAT, model

ROWS = {"x": np.arange(10, dtype=np.float32).reshape(5, 2)}


def run(made: Any, rows: dict[str, Any] = ROWS) -> dict[str, Any]:
    return answers_of(opened(inspected(graphs.content(made))[1]), rows)


def test_the_answers_are_the_graphs() -> None:
    """By output name, a row for each row, batches joined."""
    np.testing.assert_array_equal(run(graphs.doubled())["y"], 2 * ROWS["x"])
    many = {"x": np.ones((1000, 2), dtype=np.float32)}
    assert run(graphs.doubled(), many)["y"].shape == (1000, 2)


def test_rows_of_zeros_have_the_graphs_types() -> None:
    """A free length is some length, the same in every input."""
    graph, content = inspected(graphs.content(graphs.text_classifier()))
    rows = neutral_rows(graph)
    assert {name: (str(values.dtype), values.shape) for name, values in rows.items()} == {
        "input_ids": ("int64", (3, 16)),
        "attention_mask": ("int64", (3, 16)),
    }
    assert answers_of(opened(content), rows)["scores"].shape == (3, 3)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_row_must_not_depend_on_its_neighbours(axis: int) -> None:
    """A softmax over the rows is another network's first axis; one over a row's own numbers is fine."""
    made = model([helper.make_node("Softmax", ["x"], ["y"], axis=axis)])
    if axis:
        assert run(made)["y"].shape == (5, 2)
    else:
        with pytest.raises(ConfigError, match="each row must have an answer of its own"):
            run(made)


def test_an_output_must_have_rows() -> None:
    """A mean of all of them is no answer to each."""
    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[0], keepdims=1)
    with pytest.raises(ConfigError, match=r"must have a row for each row .* got the shape \[1, 2\] of 'y' for 5 rows"):
        run(model([node], outputs=[("y", FLOAT, (1, 2))]))


def test_rows_that_do_not_fit_are_told() -> None:
    """Another width than the graph's."""
    with pytest.raises((BundleError, MemoryBudgetError)):
        run(graphs.doubled(), {"x": np.ones((2, 3), dtype=np.float32)})


@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceMax"])
def test_made_up_rows_show_what_mixes_them(operator: str) -> None:
    """Rows that are all alike would hide a batch's mean that is taken from each of them."""
    nodes = [helper.make_node(operator, ["x"], ["over"], axes=[0]), helper.make_node("Sub", ["x", "over"], ["y"])]
    graph, content = inspected(graphs.content(model(nodes)))
    answers_of(opened(content), neutral_rows(graph))
    with pytest.raises(ConfigError, match="an answer of its own"):
        answers_of(opened(content), varied_rows(graph))


def test_large_answers_are_those_of_the_first_rows() -> None:
    """As many as the bound allows, one at least."""
    rows = {"x": np.arange(20, dtype=np.float32).reshape(10, 2)}
    runtime = opened(inspected(graphs.content(graphs.doubled()))[1])
    for most, num_rows in ((1, 1), (9, 4), (1000, 10)):
        answers = answers_of(runtime, rows, most)
        np.testing.assert_array_equal(answers["y"], 2 * rows["x"][:num_rows])


def test_what_is_not_finite_must_be_so_alone_too() -> None:
    """The logarithm of the rows' smallest value is NaN for all where one is negative."""
    nodes = [
        helper.make_node("ReduceMin", ["x"], ["least"], axes=[0]),
        helper.make_node("Log", ["least"], ["log"]),
        helper.make_node("Mul", ["log", "x"], ["mixed"]),
        helper.make_node("IsNaN", ["mixed"], ["odd"]),
        helper.make_node("Where", ["odd", "mixed", "x"], ["y"]),
    ]
    rows = {"x": np.array([[1.0, 1.0], [-1.0, 2.0], [3.0, 3.0]], dtype=np.float32)}
    with pytest.raises(ConfigError, match="an answer of its own"):
        run(model(nodes), rows)
