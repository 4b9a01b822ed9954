"""The peers of serving get the same rows for everyone, and their answers are checked."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import environments
from benchmarks.measure import BenchmarkError
from benchmarks.serving import cases as serving
from benchmarks.serving import load
from benchmarks.serving.__main__ import PEERS as SERVING_PEERS
from benchmarks.serving.endpoint import plain_body, plain_label, running, tensor_body, tensor_label
from benchmarks.serving.peers import floor


def test_peers_are_found_by_their_files():
    """A peer is a file in its family's folder; nothing else lists it."""
    assert set(SERVING_PEERS) >= {"fastapi", "floor", "mosec", "triton", "mlserver", "litserve", "bentoml", "ray-serve"}


def test_every_bar_is_of_a_case_and_a_peer():
    """What is promised can be measured: the peer runs the case."""
    for case, peer in serving.BARS:
        if case in serving.RAW_CASES:
            assert peer == serving.RAW_RUNTIME
        else:
            module = importlib.import_module(f"benchmarks.serving.peers.{peer.replace('-', '_')}")
            assert case in serving.CASES
            assert case in module.CASES


def test_a_peer_of_the_open_inference_protocol_is_asked_and_read():
    """Whether it answers with flat or nested data."""
    tensor = json.loads(tensor_body([1.0, 2.5]))["inputs"][0]
    assert (tensor["shape"], tensor["data"]) == ([1, 2], [1.0, 2.5])
    for data in ([0.1, 0.9, -3.0], [[0.1, 0.9, -3.0]]):
        assert tensor_label(json.dumps({"outputs": [{"name": "y", "data": data}]}).encode()) == 1


def test_a_peer_may_need_another_python(tmp_path):
    """Its requirements say which; one that is not there is told."""
    requirements = tmp_path / "odd.txt"
    requirements.write_text("# python: /no/such/python\nodd==1.0\n")
    with pytest.raises(BenchmarkError, match="must have /no/such/python"):
        environments.interpreter(requirements)
    requirements.write_text("odd==1.0\n")
    assert environments.interpreter(requirements) == sys.executable


def test_the_serving_row_is_the_same_for_everyone():
    """32 numbers with four decimals; peers without a protocol get them as `{"x": [[...]]}` and answer `{"y": ...}`."""
    row = serving.example_row()
    assert len(row) == serving.NUM_FEATURES
    assert row == [round(value, 4) for value in row] == serving.example_row()
    assert plain_body([1.0, 2.5]) == b'{"x": [[1.0, 2.5]]}'
    assert plain_label(b'{"y": [[0.1, 0.9, -3.0]]}') == 1


@pytest.mark.needs("wrk")
def test_a_served_peer_is_checked_loaded_and_stopped(tmp_path):
    """The floor serves a graph; its first answer is checked, wrk's figures are numbers, and nothing is left running."""
    graph, row = write_graph(tmp_path / "graph.onnx"), [0.0] * 31 + [7.0]
    endpoint = floor.endpoint(sys.executable, graph, row)
    with running(endpoint, expected_label=1) as url:
        seen = load.run(url, endpoint.body, num_connections=2, duration_s=1)
        refused = load.run(url, b"not json", num_connections=1, duration_s=1)
    assert seen.requests_per_s > 0
    assert 0 < seen.p50_ms < 1000
    assert seen.num_errors == 0
    assert refused.num_errors > 0


def write_graph(path: Path) -> Path:
    """A linear layer from 32 numbers to two classes; class 1 grows with the sum."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.stack([np.zeros(32), np.ones(32)], axis=1).astype(np.float32)
    onnx.save(
        helper.make_model(
            helper.make_graph(
                [helper.make_node("MatMul", ["features", "w"], ["logits"])],
                "linear",
                [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 32])],
                [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
                [numpy_helper.from_array(weights, "w")],
            ),
            opset_imports=[helper.make_opsetid("", 18)],
            ir_version=10,
        ),
        path,
    )
    return path
