"""Peers run what the benchmarks define: the same networks and rows for everyone, and answers that are checked."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.serving import cases as serving
from benchmarks.serving import load
from benchmarks.serving.__main__ import PEERS as SERVING_PEERS
from benchmarks.serving.endpoint import plain_body, plain_label, running
from benchmarks.serving.peers import floor
from benchmarks.training.__main__ import PEERS as TRAINING_PEERS
from benchmarks.training.cases import CASES, FASHION_MNIST, NUM_IMAGES, fashion_mnist, standardised
from benchmarks.training.peers import hand_loop, torch_dataloader
from benchmarks.training.torch_nets import build


@pytest.fixture(autouse=True)
def _torch_as_it_was():
    """A peer sets the process up as it likes, having it to itself; here other tests follow."""
    num_threads = torch.get_num_threads()
    yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(num_threads)


def test_peers_are_found_by_their_files():
    """A peer is a file in its family's folder; nothing else lists it."""
    assert set(TRAINING_PEERS) >= {"hand-loop", "torch-dataloader"}
    assert set(SERVING_PEERS) >= {"fastapi", "floor"}


@pytest.mark.parametrize(("case", "num_parameters"), [("mlp-b64", 269_322), ("cnn-b64", 421_642)])
def test_the_networks_are_the_defined_ones(case, num_parameters):
    """784-256-256-10, and two 3x3 convolutions with 3136-128-10 behind them."""
    assert sum(parameter.numel() for parameter in build(CASES[case]).parameters()) == num_parameters


@pytest.mark.needs("fashion-mnist")
def test_the_data_is_real_and_standardised():
    """20,000 images of Fashion-MNIST, mean 0 and deviation 1 to two digits."""
    images, labels = standardised(FASHION_MNIST)
    raw, _ = fashion_mnist(FASHION_MNIST)
    assert (raw.shape, raw.dtype, images.shape, images.dtype) == (
        (NUM_IMAGES, 28, 28),
        np.uint8,
        (NUM_IMAGES, 1, 28, 28),
        np.float32,
    )
    assert abs(float(images.mean())) < 0.02
    assert abs(float(images.std()) - 1) < 0.02
    assert np.bincount(labels).min() > 1900


@pytest.mark.needs("fashion-mnist")
@pytest.mark.parametrize("peer", [hand_loop, torch_dataloader], ids=["hand-loop", "torch-dataloader"])
def test_training_peers_report_every_epoch(peer, monkeypatch):
    """A peer gives one positive rate for each epoch (here on a tenth of the images, to be quick)."""
    images, labels = standardised(FASHION_MNIST)
    monkeypatch.setattr(peer, "standardised", lambda _: (images[:2000], labels[:2000]))
    rates = peer.run(CASES["mlp-b64"], FASHION_MNIST, 2)
    assert len(rates) == 2
    assert min(rates) > 0


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
