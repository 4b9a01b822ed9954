"""Networks that do on purpose what a broken one does by accident: their first number says how much of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.serve.packages import numeric_package

NUM_COLUMNS, NUM_LABELS = 4, 3


def looping(directory: Path, name: str = "m", *, least: int = 0) -> Path:
    """Runs as many turns of a loop as the largest first number of its rows says, `least` at least: some microseconds
    each.
    """
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Neg", ["state"], ["next"])],
        "body",
        [_end("count", TensorProto.INT64, []), _end("go", TensorProto.BOOL, []), _end("state", TensorProto.FLOAT, [1])],
        [_end("on", TensorProto.BOOL, []), _end("next", TensorProto.FLOAT, [1])],
    )
    nodes = [
        helper.make_node("Max", ["turns", "least"], ["some"]),
        helper.make_node("Reshape", ["some", "scalar"], ["times"]),
        helper.make_node("Loop", ["times", "yes", "one"], ["state_out"], body=body),
        helper.make_node("Mul", ["state_out", "zero"], ["nothing"]),
    ]
    constants = {
        "least": np.array([least]),
        "scalar": np.array([], np.int64),
        "yes": np.array(True),
        "one": np.ones(1, np.float32),
        "zero": np.zeros(1, np.float32),
    }
    return _package(directory, name, nodes, constants)


def swelling(directory: Path, name: str = "m") -> Path:
    """Takes a megabyte for each unit of the largest first number of its rows; none for one below 1."""
    nodes = [
        helper.make_node("Mul", ["turns", "million"], ["size"]),
        helper.make_node("Max", ["size", "none"], ["length"]),
        helper.make_node("ConstantOfShape", ["length"], ["swollen"]),
        helper.make_node("Add", ["swollen", "tiny"], ["touched"]),
        helper.make_node("ReduceSum", ["touched", "first"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
    ]
    constants = {
        "million": np.array([1 << 18]),
        "none": np.array([1]),
        "tiny": np.full(1, 1e-9, np.float32),
        "first": np.array([0]),
        "zero": np.zeros(1, np.float32),
    }
    return _package(directory, name, nodes, constants)


def _package(directory: Path, name: str, nodes: list[object], constants: dict[str, np.ndarray]) -> Path:
    """The package of a network that sums its columns, whose `nodes` make `nothing` out of `turns`."""
    read = [
        helper.make_node("Gather", ["features", "column"], ["first_column"], axis=1),
        helper.make_node("ReduceMax", ["first_column"], ["most"], axes=[0], keepdims=1),
        helper.make_node("Cast", ["most"], ["turns_2d"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["turns_2d", "flat"], ["turns"]),
    ]
    answer = [
        helper.make_node("MatMul", ["features", "w"], ["plain"]),
        helper.make_node("Add", ["plain", "nothing"], ["logits"]),
    ]
    weights = np.zeros((NUM_COLUMNS, NUM_LABELS), np.float32)
    weights[1:] = np.eye(NUM_LABELS)
    held = {"column": np.array([0]), "flat": np.array([1]), "w": weights, **constants}
    graph = helper.make_graph(
        [*read, *nodes, *answer],
        "canary",
        [_end("features", TensorProto.FLOAT, ["n", NUM_COLUMNS])],
        [_end("logits", TensorProto.FLOAT, ["n", NUM_LABELS])],
        [numpy_helper.from_array(values, key) for key, values in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return numeric_package(directory, name, graph=bytes(model.SerializeToString()))


def _end(name: str, kind: int, shape: list[str | int]) -> object:
    return helper.make_tensor_value_info(name, kind, shape)
