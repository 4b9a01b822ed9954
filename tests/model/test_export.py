"""`model.export`: graphs without traces of their making, and what a package takes over from training."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from corelane.core.errors import ConfigError
from corelane.core.types import StatedTask
from corelane.data.pipeline import TensorSpec
from corelane.model.config import ModelConfig
from corelane.model.export import export_graph, provenance, weights_of
from corelane.model.nets.build import build
from corelane.model.nets.tabm import COMBINE
from corelane.model.runtimes.graph_file import read_graph
from corelane.model.runtimes.onnx.runtime import OnnxRuntime
from corelane.model.runtimes.torch import TorchRuntime
from tests.model import examples

IMAGE = {"image": TensorSpec("float32", (1, 8, 8))}
TWO = {"features": TensorSpec("float32", (3,)), "image": TensorSpec("float32", (1, 2, 2))}


def messages(message: Any) -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for child in value if field.is_repeated else (value,):
                yield from messages(child)


def test_graph_holds_no_trace_of_the_exporter() -> None:
    """No path of this checkout or of the interpreter, no user name, no doc string, no metadata, no producer but us."""
    graph = export_graph(build(ModelConfig(net="cnn"), IMAGE, 3, seed=0), IMAGE)
    checkout = Path(__file__).parents[2]
    for trace in (str(checkout), str(Path(torch.__file__).parents[1]), ".py", "Traceback", "File "):
        assert trace.encode() not in graph, trace
    user = getpass.getuser()
    assert len(user) < 3 or f"/{user}/".encode() not in graph
    model = onnx.load_from_string(graph)
    assert (model.producer_name, model.producer_version) == ("corelane", "")
    for message in messages(model):
        names = {field.name for field, _ in message.ListFields()}
        assert not names & {"doc_string", "metadata_props"}


def test_graph_is_valid_and_its_bytes_depend_on_the_weights_only() -> None:
    """onnx's own checker accepts it, and exporting twice gives the same bytes."""
    module = build(ModelConfig(net="cnn", batch_norm=True), IMAGE, 3, seed=0)
    graph = export_graph(module, IMAGE)
    onnx.checker.check_model(onnx.load_from_string(graph), full_check=True)
    assert export_graph(module, IMAGE) == graph


def test_exporting_leaves_the_module_alone() -> None:
    """Mode, layout and weights of the trained module stay as they were."""
    module = build(ModelConfig(net="cnn", dropout=0.5), IMAGE, 3, seed=0).to(memory_format=torch.channels_last)
    before = weights_of(module)
    export_graph(module, IMAGE)
    assert module.training
    assert module.blocks[3].weight.is_contiguous(memory_format=torch.channels_last)
    assert all(np.array_equal(before[name], values) for name, values in weights_of(module).items())


def test_several_inputs_keep_their_names_and_order(tmp_path: Path) -> None:
    """Each pipeline output is one input of the graph, by its name, with a free number of rows."""
    module = build(ModelConfig(net="mlp", hidden=[4]), TWO, 2, seed=0)
    path = tmp_path / "net.onnx"
    path.write_bytes(export_graph(module, TWO))
    runtime = OnnxRuntime(read_graph(path))
    assert runtime.inputs == {"features": (3,), "image": (1, 2, 2)}
    random = np.random.default_rng(0)
    x = {name: random.normal(size=(5, *spec.shape)).astype(np.float32) for name, spec in TWO.items()}
    expected = TorchRuntime(module).run(x)["logits"]
    np.testing.assert_allclose(runtime.run(x)["logits"], expected, rtol=1e-4, atol=1e-6)


class Members(nn.Module):
    """The end of a tabm: three members' outputs for two labels each, joined."""

    def __init__(self, task: StatedTask) -> None:
        super().__init__()
        self.task = task

    def forward(self, features: Tensor) -> Tensor:
        return COMBINE[self.task](features.view(-1, 3, 2))


@pytest.mark.parametrize("task", ["binary", "multi_class", "multi_label", "regression"])
def test_members_that_are_certain_keep_finite_logits(tmp_path: Path, task: StatedTask) -> None:
    """Where all members have logits up to +-200, ONNX Runtime answers what torch does."""
    inputs = {"features": TensorSpec("float32", (6,))}
    path = tmp_path / "net.onnx"
    path.write_bytes(export_graph(Members(task), inputs))
    x = {"features": np.linspace(-200.0, 200.0, 21, dtype=np.float32)[:, None] * np.ones(6, dtype=np.float32)}
    x["features"][:, ::2] *= -1.0
    expected = TorchRuntime(Members(task)).run(x)["logits"]
    np.testing.assert_allclose(OnnxRuntime(read_graph(path)).run(x)["logits"], expected, rtol=1e-5, atol=1e-5)


class FixedRows(nn.Module):
    """Works for two rows only, as a careless user might write it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features.view(2, 3))


class Branches(FixedRows):
    """Decides by a value, which no graph can."""

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features) if features.sum() > 0 else self.linear(-features)


@pytest.mark.parametrize("module", [FixedRows(), Branches()])
def test_what_cannot_be_traced_is_refused(module: nn.Module) -> None:
    """A fixed batch size or a branch on a value is one ConfigError that says what to avoid."""
    with pytest.raises(ConfigError, match="for any number of rows"):
        export_graph(module, {"features": TensorSpec("float32", (3,))})


def test_provenance_is_versions_digests_and_a_given_time() -> None:
    """The time is the caller's; nothing in it names the machine."""
    made = provenance({"strength": "content", "digest": "ab"}, "cd", 0.0)
    assert (made.created, made.config_digest) == ("1970-01-01T00:00:00Z", "cd")
    assert made.torch == torch.__version__
    assert made.onnx == onnx.__version__


def test_rows_stay_out_when_they_must() -> None:
    """`include_rows: false` leaves golden, calibration and hold-out rows out of the contents."""
    with_rows = examples.contents(examples.matrix(4, 2))
    without = examples.contents(examples.matrix(4, 2), include_rows=False)
    assert None not in (with_rows.golden, with_rows.calibration, with_rows.holdout)
    assert (without.golden, without.calibration, without.holdout) == (None, None, None)
