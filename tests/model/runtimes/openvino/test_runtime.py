"""`model.runtimes.openvino.runtime`: what is refused as a graph file, and the settings it runs with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from corelane.core.errors import BundleError
from corelane.core.types import FloatArray
from corelane.machine.cpu import Machine
from corelane.model.runtimes.graph_file import read_graph
from corelane.model.runtimes.opening import BF16_ISA
from corelane.model.runtimes.openvino.runtime import OpenVinoRuntime
from tests.model.runtimes.onnx.test_runtime import graph, with_external_weights


def test_a_good_graph_tells_its_inputs_and_runs(tmp_path: Path) -> None:
    """`inputs` and `outputs` give the shape of a row of each."""
    path = tmp_path / "net.onnx"
    onnx.save(graph(), path)
    runtime = OpenVinoRuntime(read_graph(path))
    assert (runtime.inputs, runtime.outputs) == ({"features": (2,)}, {"logits": (2,)})
    x: FloatArray = np.ones((3, 2), dtype=np.float32)
    np.testing.assert_array_equal(runtime.run({"features": x})["logits"], x)


@pytest.mark.parametrize("is_bf16", [False, True])
def test_it_computes_in_the_precision_that_was_asked_for(tmp_path: Path, is_bf16: bool) -> None:
    """Left alone, the library takes bfloat16 where it can; pinning is off, and the threads are the caller's."""
    path = tmp_path / "net.onnx"
    onnx.save(graph(), path)
    runtime = OpenVinoRuntime(read_graph(path), num_threads=1, num_streams=2, is_bf16=is_bf16)
    compiled = runtime._compiled
    names = ("NUM_STREAMS", "INFERENCE_NUM_THREADS", "ENABLE_CPU_PINNING")
    assert [compiled.get_property(name) for name in names] == [2, 2, False]
    has_bf16 = not BF16_ISA.isdisjoint(Machine.detect().isa)
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == ("bf16" if is_bf16 and has_bf16 else "f32")


@pytest.mark.parametrize("content", [b"", b"not a graph", graph().SerializeToString()[:-20], None])
def test_what_is_no_whole_graph_is_refused(content: bytes | None, tmp_path: Path) -> None:
    """An empty file, other bytes, a cut file and none at all are a BundleError that names the file."""
    path = tmp_path / "net.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=r"net\.onnx must be"):
        OpenVinoRuntime(read_graph(path))


def test_an_operator_that_the_library_does_not_know_is_refused(tmp_path: Path) -> None:
    """It says of the file that it cannot be run."""
    path = tmp_path / "net.onnx"
    onnx.save(graph(operator="NoSuchOperator"), path)
    with pytest.raises(BundleError, match="must be a graph"):
        OpenVinoRuntime(read_graph(path))


@pytest.mark.parametrize("location", ["secret.bin", "../secret.bin", "{folder}/secret.bin"])
def test_a_graph_that_reads_other_files_is_refused(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library itself would read them, even an absolute path: they are not what the manifest vouches for."""
    folder = with_external_weights(tmp_path, location)
    monkeypatch.chdir(folder)
    with pytest.raises(BundleError, match="must hold its own weights"):
        OpenVinoRuntime(read_graph(folder / "net.onnx"))
