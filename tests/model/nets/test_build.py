"""`model.nets.build`: networks from configuration, checked before training starts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from corelane.core.errors import ConfigError
from corelane.core.types import NamedArrays
from corelane.data.pipeline import TensorSpec
from corelane.data.prepared import PreparedPart
from corelane.model.config import ModelConfig
from corelane.model.nets.build import build, build_described, check_module, describe, fit_inputs

FEATURES = {"features": TensorSpec("float32", (4,))}
IMAGE = {"image": TensorSpec("float32", (1, 8, 8))}

USERS_MODULE = """
import torch
from torch import nn

class Good(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.first, self.last = nn.Linear(4, width), nn.Linear(width, 2)
    def forward(self, features):
        return self.last(self.first(features).relu())

class WrongWidth(Good):
    def forward(self, features):
        return self.first(features)

class WrongInput(Good):
    def forward(self, features, more):
        return features

class NotTensor(Good):
    def forward(self, features):
        return [features]

class NotModule:
    pass
"""


@pytest.fixture
def users_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "users_networks.py").write_text(USERS_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "users_networks"


def test_weights_are_a_pure_function_of_the_seed() -> None:
    """Equal seeds give equal bytes, others do not, and torch's own generator is left where it was."""
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, again, other = (build(ModelConfig(), FEATURES, 3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [torch.cat([p.flatten() for p in net.parameters()]) for net in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_options_reach_the_network() -> None:
    """hidden, channels, dropout and batch_norm change the network that is built."""
    config = ModelConfig(net="cnn", channels=[2], hidden=[7, 5], dropout=0.5, batch_norm=True)
    kinds = [type(layer) for layer in build(config, IMAGE, 3, seed=0).modules()]
    assert kinds.count(nn.Conv2d) == kinds.count(nn.BatchNorm2d) == 1
    assert kinds.count(nn.Linear) == kinds.count(nn.Dropout) == 3


def test_users_class_is_built_by_import_path(users_module: str) -> None:
    """`package.module:Class` with arguments gives that module, its weights drawn from the seed."""
    config = ModelConfig(net=f"{users_module}:Good", arguments={"width": 5})
    net, again = build(config, FEATURES, 2, seed=3), build(config, FEATURES, 2, seed=3)
    assert type(net).__name__ == "Good"
    assert torch.equal(net.first.weight, again.first.weight)
    assert net.first.weight.shape == (5, 4)


@pytest.mark.parametrize(
    ("path", "arguments", "words"),
    [
        ("no_such_module_here:Net", {}, "must name a module that can be imported"),
        ("users_networks:Missing", {}, "must name a class of users_networks, got 'Missing'"),
        ("users_networks:NotModule", {}, "must name a torch.nn.Module class"),
        ("users_networks:Good", {"depth": 3}, "model.arguments must fit users_networks:Good"),
        ("users_networks:WrongWidth", {}, "must give logits of shape [rows, 2], got [2, 3] for 2 rows"),
        ("users_networks:WrongInput", {}, "must take the pipeline's tensors {'features': [4]}"),
        ("users_networks:NotTensor", {}, "must give logits of shape [rows, 2], got list"),
    ],
)
def test_a_users_class_that_does_not_fit_is_refused(
    users_module: str, path: str, arguments: dict[str, object], words: str
) -> None:
    """What cannot be imported, constructed or run on the pipeline's tensors is a ConfigError that says so."""
    with pytest.raises(ConfigError) as error:
        build(ModelConfig(net=path, arguments=arguments), FEATURES, 2, seed=0)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("channels", "inputs", "words"),
    [
        ([32, 64], FEATURES, "cnn must get one image"),
        ([32], IMAGE | FEATURES, "cnn must get one image"),
        ([1, 1, 1, 1], IMAGE, "model.channels must halve images of 8 x 8 at most 3 times, got 4"),
    ],
)
def test_cnn_needs_one_image_large_enough(channels: list[int], inputs: dict[str, TensorSpec], words: str) -> None:
    """Columns that are no image, or more halvings than pixels, are refused with what to do."""
    with pytest.raises(ConfigError) as error:
        build(ModelConfig(net="cnn", channels=channels), inputs, 2, seed=0)
    assert words in str(error.value)


def test_a_check_leaves_frozen_parts_in_evaluation_mode() -> None:
    """Each part of a module is afterwards in the mode it was in."""
    module = nn.Sequential(nn.BatchNorm1d(4).eval(), nn.Linear(4, 2))
    check_module(module, FEATURES, 2)
    assert [part.training for part in module] == [False, True]


def test_an_object_is_checked_like_a_class() -> None:
    """A module handed over in Python is run on two rows too, and keeps its mode."""
    module = nn.Linear(4, 2)
    check_module(module, FEATURES, 2)
    assert module.training
    with pytest.raises(ConfigError, match="must give logits of shape"):
        check_module(module, FEATURES, 3)


@pytest.mark.parametrize(
    ("config", "inputs", "numbers"),
    [
        (ModelConfig(net="mlp", hidden=[5], dropout=0.5), IMAGE, ()),
        (ModelConfig(net="cnn", batch_norm=True), IMAGE, ()),
        (ModelConfig(preset="resnet-8"), IMAGE, ()),
        (ModelConfig(net="auto"), FEATURES, (0, 2)),
    ],
)
def test_a_described_network_can_be_rebuilt(
    config: ModelConfig, inputs: dict[str, TensorSpec], numbers: tuple[int, ...]
) -> None:
    """The description holds all that is needed to load the weights again and to answer alike."""
    net = build(config, inputs, 3, seed=0, task="regression", numbers=numbers)
    described = json.loads(json.dumps(describe(config, net, inputs, 3, task="regression", numbers=numbers)))
    assert None not in described["options"].values()
    rebuilt = build_described(described)
    rebuilt.load_state_dict(net.state_dict())
    assert described["num_parameters"] == sum(p.numel() for p in rebuilt.parameters())
    x = torch.randn(5, *next(iter(inputs.values())).shape)
    assert torch.equal(rebuilt.eval()(x), net.eval()(x))


def test_a_module_from_python_is_not_described_as_the_configured_net() -> None:
    """A configuration says nothing of a module that was handed over, so it is `custom` whatever `net` says."""
    assert describe(ModelConfig(), nn.Linear(4, 2), FEATURES, 2)["net"] == "custom"


def test_inputs_are_fitted_to_the_training_part_alone() -> None:
    """A network that asks for it sees evenly spaced rows of the training part, the same each time; others see none."""
    values = np.linspace(0.0, 1.0, 200_001, dtype=np.float32)[:, None]
    part = PreparedPart({"features": values}, values[:, 0], np.arange(len(values)))
    nets = [build(ModelConfig(net="tabm", bins=4), {"features": TensorSpec("float32", (1,))}, 1, seed=0, numbers=[0])]
    for net in (*nets, nn.Linear(1, 1)):
        fit_inputs(net, part)
    torch.testing.assert_close(nets[0].embedding.start, torch.tensor([[0.0, 0.25, 0.5, 0.75]]))


def test_few_rows_are_shown_of_a_wide_table() -> None:
    """The sample takes 256 MiB at most, and a network of many columns is fitted in little more than that."""
    num_columns, shown = 20_000, []
    values = np.broadcast_to(np.float32(1.0), (65_536, num_columns))
    part = PreparedPart({"features": values}, np.zeros(65_536), np.arange(65_536))

    class Sees(nn.Module):
        def fit_inputs(self, sample: NamedArrays) -> None:
            shown.append(sample["features"].nbytes)

    fit_inputs(Sees(), part)
    assert shown[0] <= 1 << 28


def test_a_users_network_is_described_without_its_import_path(users_module: str) -> None:
    """Packages hold no import path: a user's network is `custom` with its size."""
    config = ModelConfig(net=f"{users_module}:Good")
    described = describe(config, build(config, FEATURES, 2, seed=0), FEATURES, 2)
    assert described == {"net": "custom", "inputs": {"features": [4]}, "num_outputs": 2, "num_parameters": 23}
