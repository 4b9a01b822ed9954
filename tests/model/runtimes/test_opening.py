"""`model.runtimes.opening`: which runtime a candidate gets, and which candidates make no sense."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from corelane.core.errors import ConfigError
from corelane.model.candidate import Candidate
from corelane.model.runtimes.graph_file import read_graph
from corelane.model.runtimes.onnx.runtime import OnnxRuntime
from corelane.model.runtimes.opening import open_runtime, open_weights, runtimes_of, usable_runtimes
from corelane.model.runtimes.streams import Streams
from tests.model.runtimes.test_base import graph_file

LOOK = """
import sys
from corelane.model.runtimes.opening import usable_runtimes
print(*usable_runtimes())
print(*sorted({"torch", "openvino", "onnx"} & set(sys.modules)))
"""


def test_looking_costs_no_import() -> None:
    """All three libraries are found where the tests run, and none but ONNX Runtime is loaded for that."""
    child = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True, timeout=60)
    assert child.stdout.split("\n")[:2] == ["onnxruntime openvino torch", ""]
    assert usable_runtimes() == ("onnxruntime", "openvino", "torch")


@pytest.mark.parametrize(("threads", "streams", "kind"), [(1, 4, OnnxRuntime), (2, 1, OnnxRuntime), (2, 2, Streams)])
def test_sessions_with_threads_are_one_per_stream(threads: int, streams: int, kind: type, tmp_path: Path) -> None:
    """A session without a pool is shared by all callers; one with a pool of its own is one caller's at a time."""
    runtime = open_runtime(read_graph(graph_file(tmp_path)), Candidate("onnxruntime", "fp32", threads, streams))
    assert type(runtime) is kind
    runtime.close()


@pytest.mark.parametrize("candidate", [Candidate("torch", "fp32"), Candidate("onnxruntime", "bf16")])
def test_what_no_file_can_be_run_as_is_refused(candidate: Candidate, tmp_path: Path) -> None:
    """torch runs weights, and ONNX Runtime has no bfloat16 here."""
    with pytest.raises(ConfigError, match="by a library that can"):
        open_runtime(read_graph(graph_file(tmp_path)), candidate)


def test_weights_are_not_quantised() -> None:
    """torch has no graph to run an int8 one by."""
    with pytest.raises(ConfigError, match=r"one of \['fp32', 'bf16'\], got 'int8'"):
        open_weights({}, {}, Candidate("torch", "int8"))


@pytest.mark.parametrize(
    ("graph", "isa", "runtimes"),
    [
        ("fp32", ("avx2",), ("onnxruntime", "openvino", "torch")),
        ("bf16", ("avx2",), ()),
        ("bf16", ("avx2", "avx512_bf16"), ("openvino", "torch")),
        ("bf16", ("amx_bf16",), ("openvino", "torch")),
        ("int8", ("avx2",), ("onnxruntime", "openvino")),
        ("int16", ("avx2",), ("onnxruntime",)),
    ],
)
def test_each_graph_where_it_is_what_it_is_called(graph: str, isa: tuple[str, ...], runtimes: tuple[str, ...]) -> None:
    """bfloat16 would be emulated, or silently be something else, on a CPU without it."""
    assert runtimes_of(graph, isa) == runtimes
