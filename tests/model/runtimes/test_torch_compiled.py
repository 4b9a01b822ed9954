"""`model.runtimes.torch_compiled`: packages run by compiled weights, in bfloat16 too. What all runtimes promise is in
`test_base.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from corelane.core.errors import ConfigError
from corelane.data.pipeline import TensorSpec
from corelane.model.candidate import Candidate
from corelane.model.config import ModelConfig
from corelane.model.nets.build import build
from corelane.model.package import ModelPackage
from corelane.model.runtimes.torch_compiled import CompiledTorchRuntime
from tests.model import examples

INPUTS = {"features": TensorSpec("float32", (6,))}


def test_a_package_runs_by_its_compiled_weights(tmp_path: Path) -> None:
    """A candidate that names torch answers the golden rows, and torch's thread count is left as it was."""
    package = ModelPackage.load(examples.publish(tmp_path, examples.mixed()))
    before = torch.get_num_threads()
    with package.predictor(Candidate("torch", "fp32", threads=before + 1, batch=8)) as predictor:
        package.check_golden(predictor)
    assert torch.get_num_threads() == before


def test_bfloat16_is_near_and_not_the_same() -> None:
    """Products of eight bits of mantissa: answers differ by a hundredth, and are float32 again."""
    net = build(ModelConfig(net="mlp", hidden=[32]), INPUTS, 3, seed=0)
    x = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
    with torch.no_grad():
        exact = net.eval()(torch.from_numpy(x)).numpy()
    runtime = CompiledTorchRuntime(net, INPUTS, is_bf16=True)
    logits = runtime.run({"features": x})["logits"]
    assert logits.dtype == np.float32
    assert 1e-4 < np.abs(logits - exact).max() < 0.03
    runtime.close()


class Broken(nn.Module):
    """Fails when it is run."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.view(-1, 5)


def test_what_cannot_be_compiled_is_refused() -> None:
    """The error says that another runtime may do, before any request is answered."""
    with pytest.raises(ConfigError, match="the network Broken must be one that torch can compile here"):
        CompiledTorchRuntime(Broken(), INPUTS)
