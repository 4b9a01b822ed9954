"""Small foreign graphs, good and bad, as ONNX files have them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
WEIGHTS = np.random.default_rng(0).normal(size=(100, 16)).astype(np.float32)
HEAD = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)


def model(
    nodes: Sequence[Any],
    inputs: Sequence[tuple[str, int, Sequence[Any] | None]] = (("x", FLOAT, ("n", 2)),),
    outputs: Sequence[tuple[str, int, Sequence[Any] | None]] = (("y", FLOAT, ("n", 2)),),
    constants: Sequence[Any] = (),
    *,
    opset: int = 17,
    **more: Any,
) -> Any:
    """An ONNX model of `nodes`, with its ends as (name, type, shape)."""
    ends = [[helper.make_tensor_value_info(*end) for end in one] for one in (inputs, outputs)]
    graph = helper.make_graph(list(nodes), "foreign", *ends, list(constants))
    opsets = [helper.make_opsetid("", opset), *more.pop("opsets", ())]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **more)


def text_classifier() -> Any:
    """Tokens and their mask, both [rows, length] with a free length, to vectors [rows, length, 16], scores and the best
    of three.
    """
    nodes = [
        helper.make_node("Gather", ["embedding", "input_ids"], ["tokens"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["tokens", "column"], ["vectors"]),
        helper.make_node("ReduceSum", ["vectors", "axis"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "axis"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("MatMul", ["mean", "head"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0),
    ]
    constants = {"embedding": WEIGHTS, "head": HEAD, "last": np.array([2]), "axis": np.array([1])}
    return model(
        nodes,
        [("input_ids", INT64, ("rows", "length")), ("attention_mask", INT64, ("rows", "length"))],
        [
            ("vectors", FLOAT, ("rows", "length", 16)),
            ("scores", FLOAT, ("rows", 3)),
            ("best", INT64, ("rows",)),
        ],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )


def doubled(**more: Any) -> Any:
    """y = x + x."""
    return model([helper.make_node("Add", ["x", "x"], ["y"])], **more)


def external(location: str, offset: int = 0, length: int = 16) -> Any:
    """A weight in another file."""
    weight = numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": str(offset), "length": str(length)}.items():
        weight.external_data.add(key=key, value=value)
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], constants=[weight])


def branch_with_external(location: str) -> Any:
    """The same inside a branch of an If, where a reader of the graph's own weights does not look."""
    inner = external(location).graph
    del inner.input[:]
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "else", [], [helper.make_tensor_value_info("y", FLOAT, ["n", 2])]
    )
    yes = numpy_helper.from_array(np.array(True), "yes")
    return model([helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=other)], constants=[yes])


def endless() -> Any:
    """A loop whose condition always holds and whose count is the largest there is."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["state", "state"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("count", INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", FLOAT, ["n", 2]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", FLOAT, ["n", 2]),
        ],
    )
    constants = [
        numpy_helper.from_array(np.array(np.iinfo(np.int64).max), "most"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    return model([helper.make_node("Loop", ["most", "yes", "x"], ["y"], body=body)], constants=constants)


def huge() -> Any:
    """A constant of 10^12 numbers, in a file of 200 bytes."""
    size = numpy_helper.from_array(np.array([10**6, 10**6]), "size")
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["ones"]),
        helper.make_node("ReduceSum", ["ones"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return model(nodes, constants=[size])


def chain(length: int) -> Any:
    """So many nodes, one after another."""
    names = ["x", *(f"h{index}" for index in range(length - 1)), "y"]
    return model([helper.make_node("Neg", [one], [other]) for one, other in pairwise(names)])


def content(made: Any) -> bytes:
    """The file."""
    return bytes(made.SerializeToString())


def custom() -> Any:
    """An operator of somebody's own library."""
    node = helper.make_node("Shell", ["x"], ["y"], domain="evil.ops")
    return model([node], opsets=[helper.make_opsetid("evil.ops", 1)])


__all__ = ["FLOAT", "INT64", "helper", "onnx"]
