"""What is seen of a foreign graph before it is run, and what is refused by that alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from corelane.core.errors import BundleError, ConfigError
from corelane.model.foreign.inspecting import inspected
from tests.model.foreign import graphs
from tests.model.foreign.graphs import FLOAT, model


def test_the_ends_are_read_from_the_graph() -> None:
    """Names, types and shapes, -1 where a length is free; the first axis is the rows."""
    graph, content = inspected(graphs.content(graphs.text_classifier()))
    assert [(one.name, one.dtype, one.shape) for one in graph.inputs] == [
        ("input_ids", "int64", (-1,)),
        ("attention_mask", "int64", (-1,)),
    ]
    assert [(one.name, one.dtype, one.shape) for one in graph.outputs] == [
        ("vectors", "float32", (-1, 16)),
        ("scores", "float32", (3,)),
        ("best", "int64", ()),
    ]
    assert (graph.opset, graph.num_nodes) == (17, 9)
    assert b"foreign" not in onnx.load_from_string(content).producer_name.encode()


def test_weights_among_the_inputs_are_no_inputs() -> None:
    """Files of older versions list them there too."""
    weight = numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")
    made = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", FLOAT, ("n", 2)), ("w", FLOAT, (2, 2))],
        constants=[weight],
    )
    for version in (3, 8):
        made.ir_version = version
        assert [one.name for one in inspected(graphs.content(made))[0].inputs] == ["x"]


def test_a_shape_that_is_not_stated_is_inferred() -> None:
    """An output without one has what the nodes give it."""
    made = graphs.doubled()
    made.graph.output[0].type.tensor_type.ClearField("shape")
    assert inspected(graphs.content(made))[0].outputs[0].shape == (2,)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (graphs.external("../secret.bin"), "must be in the file, got a reference to another file in 'w'"),
        (graphs.external("/etc/passwd"), "must be in the file"),
        (graphs.external("weights.bin", 10**15, 10**15), "must be in the file"),
        (graphs.external("*/_ORT_MEM_ADDR_/*", 12345), "must be in the file"),
        (graphs.branch_with_external("../secret.bin"), "must be in the file"),
        (graphs.custom(), "must be one of ONNX Runtime's own, got evil.ops.Shell"),
        (graphs.doubled(opset=99), "opset must be from 7 to"),
        (graphs.doubled(opset=6), "opset must be from 7 to"),
        (model([helper.make_node("Shell", ["x"], ["y"])]), "must be one of ONNX's, got ai.onnx.Shell"),
        (model([helper.make_node("Add", ["x", "nothing"], ["y"])]), "must be valid ONNX"),
        (model([]), "with a graph of nodes, got none"),
    ],
)
def test_what_must_not_be_run_is_refused(made: Any, words: str) -> None:
    """References to other files wherever they stand, operators and versions that the runtime does not have."""
    with pytest.raises(BundleError, match=words):
        inspected(graphs.content(made))


def test_more_nodes_than_any_network_has() -> None:
    """They are counted before anything walks along them."""
    with pytest.raises(BundleError, match="at most 100000 nodes"):
        inspected(graphs.content(graphs.chain(100_001)))


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x80\x04.", graphs.content(graphs.text_classifier())[:-50]])
def test_what_is_no_onnx_is_refused(content: bytes) -> None:
    """Nothing, text, a pickle, a file that was cut."""
    with pytest.raises(BundleError, match="must be"):
        inspected(content)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (
            graphs.doubled(inputs=[("x", FLOAT, (4, 2))], outputs=[("y", FLOAT, (4, 2))]),
            "rows, any number of them, got 4",
        ),
        (graphs.doubled(inputs=[("x", FLOAT, ())], outputs=[("y", FLOAT, ())]), "known number of axes"),
        (graphs.doubled(inputs=[("x", FLOAT, None)], outputs=[("y", FLOAT, None)]), "known number of axes"),
        (
            graphs.doubled(
                inputs=[("x", TensorProto.FLOAT16, ("n", 2))], outputs=[("y", TensorProto.FLOAT16, ("n", 2))]
            ),
            "of a type among bool, .* got 'x' of float16",
        ),
        (
            model(
                [helper.make_node("Identity", ["x"], ["y"])],
                [("x", TensorProto.STRING, ("n",))],
                [("y", TensorProto.STRING, ("n",))],
            ),
            "of a type among",
        ),
        (
            model([helper.make_node("Constant", [], ["y"], value=helper.make_tensor("c", FLOAT, [1, 2], [1, 2]))], []),
            "must have an input",
        ),
    ],
)
def test_ends_that_are_not_ours_are_told(made: Any, words: str) -> None:
    """No rows, no known axes, half floats, texts: what to export otherwise."""
    with pytest.raises(ConfigError, match=words):
        inspected(graphs.content(made))


def test_a_map_is_no_tensor() -> None:
    """What scikit-learn's converter gives unless it is told otherwise."""
    made = graphs.doubled()
    made.graph.output[0].type.Clear()
    made.graph.output[0].type.sequence_type.elem_type.tensor_type.elem_type = FLOAT
    with pytest.raises((ConfigError, BundleError), match="must be"):
        inspected(graphs.content(made))
