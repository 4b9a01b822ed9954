"""`model.runtimes.onnx.quantizer`: graphs whose weights are bytes, the same each time, that answer nearly as before."""

from __future__ import annotations

import getpass
import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from corelane.core.types import FloatArray
from corelane.data.pipeline import TensorSpec
from corelane.model.candidate import Candidate
from corelane.model.config import ModelConfig
from corelane.model.export import export_graph
from corelane.model.nets.build import build
from corelane.model.quantize.logits import error_of, logits_of
from corelane.model.runtimes.graph_file import read_graph
from corelane.model.runtimes.onnx.quantizer import Activations, Quantizer
from corelane.model.runtimes.opening import open_runtime
from tests.model.quantize.examples import accuracy, trained

QUANTIZED = {"QuantizeLinear", "DequantizeLinear"}


@pytest.fixture(scope="module")
def quantizer() -> Quantizer:
    return Quantizer(trained().graph, trained().calibration)


@pytest.mark.parametrize(("activations", "most_error"), [("int8", 1e-3), ("int16", 2e-4)])
def test_it_answers_nearly_as_before(quantizer: Quantizer, activations: Activations, most_error: float) -> None:
    """Logits move by a hundredth of their deviation, less with 16 bits, and the accuracy by less than a point."""
    source = trained()
    graph = quantizer.quantized(activations)
    exact = logits_of(source.graph, source.held_out)
    assert accuracy(exact) > 0.95
    assert 0.0 < error_of(graph, source.held_out, exact) < most_error
    assert abs(accuracy(logits_of(graph, source.held_out)) - accuracy(exact)) < 0.01


def test_both_libraries_answer_alike(quantizer: Quantizer, tmp_path: Path) -> None:
    """OpenVINO runs the same file, and lies as close to the float32 graph."""
    source = trained()
    path = tmp_path / "int8.onnx"
    path.write_bytes(quantizer.quantized())
    runtime = open_runtime(read_graph(path), Candidate("openvino", "int8"))
    logits: FloatArray = np.concatenate([runtime.run(batch)["logits"] for batch in source.held_out])
    exact = logits_of(source.graph, source.held_out)
    assert np.mean(np.square(logits - exact)) / np.var(exact) < 1e-3
    runtime.close()


def test_logits_are_not_rounded(quantizer: Quantizer) -> None:
    """The last layer's answers are float32, not one of 256 steps."""
    logits = logits_of(quantizer.quantized(), trained().held_out)
    assert len(np.unique(logits)) > 0.9 * logits.size


def test_weights_are_bytes_in_the_file(quantizer: Quantizer) -> None:
    """Every layer's weights are int8, one scale a channel, and the file is 0.3 of the size at most."""
    graph = quantizer.quantized()
    weights = [tensor for tensor in onnx.load_from_string(graph).graph.initializer if len(tensor.dims) > 1]
    assert [tensor.data_type for tensor in weights] == [TensorProto.INT8] * 5
    assert len(graph) < 0.3 * len(trained().graph)


@pytest.mark.parametrize("activations", ["int8", "int16"])
def test_a_graph_is_valid_and_names_nothing_of_the_machine(quantizer: Quantizer, activations: Activations) -> None:
    """ONNX's own operators only, no path, no tool, equal bytes each time, whoever calibrates."""
    graph = quantizer.quantized(activations)
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain for entry in model.opset_import} == {""}
    assert model.producer_name == "corelane"
    for trace in (b"/tmp", b"corelane-quantize", str(Path.home()).encode() + b"/", f"/{getpass.getuser()}/".encode()):
        assert trace not in graph
    assert Quantizer(trained().graph, trained().calibration).quantized(activations) == graph


def test_kept_layers_stay_as_they_are(quantizer: Quantizer) -> None:
    """A layer that is kept has its float32 weights; with all of them kept nothing is quantised."""
    first = quantizer.layers[0]
    kept = onnx.load_from_string(quantizer.quantized(keep=[first]))
    (node,) = [node for node in kept.graph.node if node.name == first]
    assert node.input[1] in {tensor.name for tensor in kept.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    untouched = quantizer.quantized(keep=quantizer.layers)
    assert not QUANTIZED & {node.op_type for node in onnx.load_from_string(untouched).graph.node}
    np.testing.assert_allclose(
        logits_of(untouched, trained().held_out), logits_of(trained().graph, trained().held_out), rtol=1e-4, atol=1e-4
    )


def test_attention_and_normalisation_stay_float32() -> None:
    """Of a transformer only the layers with weights are quantised: not its embedding, softmax or attention products."""
    inputs = {"tokens": TensorSpec("int64", (16,), 50)}
    config = ModelConfig(net="transformer", width=32, layers=1, heads=2, feed_forward=64)
    random = np.random.default_rng(0)
    batches = [{"tokens": random.integers(0, 50, (32, 16))} for _ in range(2)]
    original = export_graph(build(config, inputs, 3, seed=0), inputs)
    quantizer = Quantizer(original, batches)
    model = onnx.load_from_string(quantizer.quantized())
    made_of = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        fed_by = {made_of[name].op_type for name in node.input if name in made_of}
        if node.op_type in ("Softmax", "LayerNormalization", "Gather"):
            assert not fed_by & QUANTIZED
    weightless = [node for node in model.graph.node if node.op_type == "MatMul" and node.name not in quantizer.layers]
    assert len(weightless) == 2  # queries by keys, and weights by values
    assert error_of(model.SerializeToString(), batches, logits_of(original, batches)) < 1e-2


def test_nothing_is_said(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """The quantiser's advice and progress stay out of the user's terminal and log."""
    with caplog.at_level(logging.WARNING):
        Quantizer(trained().graph, trained().calibration[:1], method="entropy").quantized("int16")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
