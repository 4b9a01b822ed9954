"""`model.quantize.sensitivity` and `mixed`: what costs accuracy is found and stays float32, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from corelane.core.types import FloatArray
from corelane.model.quantize.logits import error_of, logits_of
from corelane.model.quantize.mixed import mixed_graph
from corelane.model.quantize.sensitivity import layer_costs
from corelane.model.runtimes.onnx.quantizer import Quantizer

NAMES = ["first", "delicate", "third", "last"]
RANDOM = np.random.default_rng(0)
BATCHES = [{"features": RANDOM.normal(size=(64, 16)).astype(np.float32)} for _ in range(2)]


def delicate_graph() -> bytes:
    """Four layers; the second one's weights of each channel span a factor of 1,000, which 8 bits cannot hold."""
    weights = {name: (RANDOM.normal(size=(16, 16)) / 4).astype(np.float32) for name in NAMES}
    weights["delicate"][0] *= 1000.0
    bias: FloatArray = np.zeros(16, dtype=np.float32)
    nodes, value = [], "features"
    for name in NAMES:
        output = "logits" if name == "last" else f"{name}_out"
        nodes.append(helper.make_node("Gemm", [value, f"{name}_w", "bias"], [output], name=name))
        value = output
    # The large inputs are scaled away before the layer, so that they weigh no more than the others.
    weights["first"][:, 0] /= 1000.0
    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 16])],
        [numpy_helper.from_array(values, f"{name}_w") for name, values in weights.items()]
        + [numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


GRAPH = delicate_graph()
EXACT = logits_of(GRAPH, BATCHES)


@pytest.fixture(scope="module")
def quantizer() -> Quantizer:
    return Quantizer(GRAPH, BATCHES)


def drop_of(graph: bytes) -> float:
    return error_of(graph, BATCHES, EXACT)


def test_the_layer_that_costs_is_found(quantizer: Quantizer) -> None:
    """It comes first, and costs many times what the next one does."""
    costs = layer_costs(GRAPH, quantizer, BATCHES[:1])
    assert next(iter(costs)) == "delicate"
    assert sorted(costs) == sorted(NAMES)
    worst, second, *_ = costs.values()
    assert worst > 10 * second


def test_only_that_layer_stays_float32(quantizer: Quantizer) -> None:
    """A bound that the full int8 graph breaks is met with one layer in float32."""
    bound = 0.1 * drop_of(quantizer.quantized())
    mixed = mixed_graph(quantizer, list(layer_costs(GRAPH, quantizer, BATCHES)), drop_of, bound)
    assert mixed is not None
    assert mixed.kept == ("delicate",)
    assert mixed.drop == drop_of(mixed.graph) <= bound


def test_a_needless_layer_is_released(quantizer: Quantizer) -> None:
    """Where the order put a harmless layer first, it is tried again and quantised."""
    bound = 0.1 * drop_of(quantizer.quantized())
    mixed = mixed_graph(quantizer, ["third", "delicate", "first", "last"], drop_of, bound)
    assert mixed is not None
    assert mixed.kept == ("delicate",)


def test_within_the_bound_nothing_stays(quantizer: Quantizer) -> None:
    """A graph that is good enough as it is, is taken as it is."""
    mixed = mixed_graph(quantizer, NAMES, drop_of, max_drop=np.inf)
    assert mixed is not None
    assert mixed.kept == ()


def test_there_may_be_none(quantizer: Quantizer) -> None:
    """A bound that only float32 meets has no mixed graph."""
    assert mixed_graph(quantizer, NAMES, drop_of, max_drop=0.0) is None
