"""`model.runtimes.onnx.runtime`: what is refused as a graph file, and the session's threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from corelane.core.errors import BundleError
from corelane.core.types import FloatArray
from corelane.model.runtimes.graph_file import read_graph
from corelane.model.runtimes.onnx.runtime import OnnxRuntime

WEIGHTS = np.eye(2, dtype=np.float32)


def graph(output: str = "logits", operator: str = "MatMul") -> onnx.ModelProto:
    nodes = [helper.make_node(operator, ["features", "w"], [output])]
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", 2])]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["rows", 2])]
    made = helper.make_graph(nodes, "net", inputs, outputs, [numpy_helper.from_array(WEIGHTS, "w")])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_good_graph_tells_its_inputs_and_runs(tmp_path: Path) -> None:
    """`inputs` and `outputs` give the shape of a row of each."""
    path = tmp_path / "net.onnx"
    onnx.save(graph(), path)
    runtime = OnnxRuntime(read_graph(path))
    assert (runtime.inputs, runtime.outputs) == ({"features": (2,)}, {"logits": (2,)})
    x: FloatArray = np.ones((3, 2), dtype=np.float32)
    np.testing.assert_array_equal(runtime.run({"features": x})["logits"], x)


@pytest.mark.parametrize("content", [b"", b"not a graph", graph().SerializeToString()[:-20]])
def test_what_is_no_whole_graph_is_refused(content: bytes, tmp_path: Path) -> None:
    """An empty file, other bytes and a cut file are a BundleError that names the file."""
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"net\.onnx must be"):
        OnnxRuntime(read_graph(path))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """So is a file that is not there."""
    with pytest.raises(BundleError, match=r"net\.onnx must be"):
        OnnxRuntime(read_graph(tmp_path / "net.onnx"))


def test_an_operator_that_the_library_does_not_know_is_refused(tmp_path: Path) -> None:
    """It says of the file that it cannot be run."""
    path = tmp_path / "net.onnx"
    onnx.save(graph(operator="NoSuchOperator"), path)
    with pytest.raises(BundleError, match="must be a graph"):
        OnnxRuntime(read_graph(path))


@pytest.mark.parametrize("location", ["secret.bin", "../secret.bin", "{folder}/secret.bin"])
def test_a_graph_that_reads_other_files_is_refused(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights outside the graph file are not read, wherever they lie: they are not what the manifest vouches for."""
    folder = with_external_weights(tmp_path, location)
    monkeypatch.chdir(folder)
    with pytest.raises(BundleError):
        OnnxRuntime(read_graph(folder / "net.onnx"))


def with_external_weights(tmp_path: Path, location: str) -> Path:
    """A folder with a `net.onnx` whose weights are in another file, which is in the folder and above it."""
    folder = tmp_path / "package"
    folder.mkdir()
    for place in (tmp_path, folder):
        (place / "secret.bin").write_bytes(WEIGHTS.tobytes())
    model = graph()
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location.format(folder=folder)), ("offset", "0"), ("length", "16")):
        weights.external_data.add(key=key, value=value)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return folder
