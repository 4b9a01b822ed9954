"""torch behind the `Runtime` protocol: the training path's own answers, against which graphs are judged. Imports torch.

Used by the skew gate, by evaluation during training, and to run a package's weights without its graph.
"""

from __future__ import annotations

import numpy as np
import torch

from corelane.core.types import Array, NamedArrays
from corelane.model.modes import evaluating
from corelane.model.package import ModelPackage
from corelane.model.predictor import Predictor
from corelane.model.runtimes.base import LOGITS, closed, unfit
from corelane.model.runtimes.torch_weights import described_module
from corelane.model.torch_threads import torch_threads


class TorchRuntime:
    """Runs `module` in evaluation mode without gradients, `num_threads` threads per call.

    The module is the caller's: the modes of its parts are put back after every call, and so is torch's thread count,
    which is one number for the whole process (two runtimes with different counts must not run at the same time).
    """

    def __init__(self, module: torch.nn.Module, *, num_threads: int = 1) -> None:
        self._module: torch.nn.Module | None = module
        self._num_threads = num_threads

    def run(self, inputs: NamedArrays) -> dict[str, Array]:
        """`{"logits": float32 [n, num_outputs]}` for float32 `inputs` [n, ...], in the order the module takes them."""
        module = self._module
        if module is None:
            raise closed()
        tensors = [torch.from_numpy(np.require(array, requirements=["C", "W"])) for array in inputs.values()]
        with evaluating(module), torch_threads(self._num_threads), torch.inference_mode():
            try:
                return {LOGITS: module(*tensors).numpy()}
            except (RuntimeError, TypeError) as error:
                raise unfit(f"the network {type(module).__name__}", inputs, error) from error

    def close(self) -> None:
        """Let go of the module."""
        self._module = None


def torch_predictor(package: ModelPackage, *, num_threads: int = 1) -> Predictor:
    """A predictor that runs the package's weights instead of a graph: its network rebuilt from its description.

    Raises `ConfigError` for a network that is not one of Corelane's (a package holds no code), `BundleError` when the
    weights do not fit.
    """
    module = described_module(package.architecture, package.weights())
    return Predictor(package.pipeline, package.decoder, TorchRuntime(module, num_threads=num_threads))
