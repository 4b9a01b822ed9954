"""`model.runtimes.torch`: what it leaves alone, and packages run by their weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from corelane.core.errors import BundleError, ConfigError
from corelane.model.package import ModelPackage
from corelane.model.runtimes.torch import TorchRuntime, torch_predictor
from corelane.model.skew import compare
from tests.model import examples


def test_mode_and_threads_are_put_back() -> None:
    """A run in the middle of training leaves the module in training mode and torch's thread count as it was."""
    module = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 1))
    before = torch.get_num_threads()
    runtime = TorchRuntime(module, num_threads=before + 1)
    x = np.ones((4, 2), dtype=np.float32)
    first, again = runtime.run({"features": x}), runtime.run({"features": x})
    np.testing.assert_array_equal(first["logits"], again["logits"])  # dropout is off while it runs
    assert module.training
    assert torch.get_num_threads() == before


def test_a_package_runs_by_its_weights(tmp_path: Path) -> None:
    """`torch_predictor` rebuilds a built-in network and answers the golden rows."""
    package = ModelPackage.load(examples.publish(tmp_path, examples.images(), "cnn"))
    with torch_predictor(package) as by_weights, package.predictor() as by_graph:
        package.check_golden(by_weights)
        x = np.zeros((2, 8, 8, 1), dtype=np.uint8)
        answers = [predictor.predict_columns({"image": x}) for predictor in (by_weights, by_graph)]
    compare(*answers, package.tolerances["fp32"])


def test_a_users_network_cannot_run_without_its_graph(tmp_path: Path) -> None:
    """A package holds no code, so torch cannot run a user's network from it."""
    package = ModelPackage.load(examples.publish(tmp_path, examples.matrix(4, 2)))
    custom = replace(package, architecture={**package.architecture, "net": "custom"})
    with pytest.raises(ConfigError, match="use its ONNX graph"):
        torch_predictor(custom)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    """Weights that do not fit the described architecture are a broken package."""
    package = ModelPackage.load(examples.publish(tmp_path, examples.matrix(4, 2)))
    options = {**package.architecture["options"], "hidden": [3]}
    other = replace(package, architecture={**package.architecture, "options": options})
    with pytest.raises(BundleError, match=r"weights\.safetensors must fit"):
        torch_predictor(other)
