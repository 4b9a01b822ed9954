"""torch's inductor behind the `Runtime` protocol: a network compiled for answers, its weights packed. Imports torch.

Opened by `opening.py` for a plan that chose it. Compiling takes seconds to tens of seconds and is over when the runtime
exists; what it compiles lies in the folder that `TORCHINDUCTOR_CACHE_DIR` names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from corelane.core.errors import ConfigError
from corelane.core.types import Array, NamedArrays
from corelane.data.pipeline import TensorSpec
from corelane.model.compiling import compile_alone
from corelane.model.nets.build import example_of
from corelane.model.runtimes.base import LOGITS, closed, unfit
from corelane.model.torch_threads import torch_threads

Network: TypeAlias = Callable[..., torch.Tensor]


class CompiledTorchRuntime:
    """Runs `module`, which it takes over, on `num_threads` threads a call. May be shared by threads.

    Compiled twice: for one row, and for any number of them (torch makes a special case of one). `num_rows` is the
    number that will be asked for most. With `is_bf16` it computes in bfloat16. Calls hold Python's lock in
    part of the work, so that several at once gain less than in the other runtimes. Raises `ConfigError` when the
    network cannot be compiled here.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Mapping[str, TensorSpec],
        *,
        num_threads: int = 1,
        is_bf16: bool = False,
        num_rows: int = 2,
    ) -> None:
        compile_alone()
        self._num_threads, self._is_bf16 = num_threads, is_bf16
        self._name = type(module).__name__
        self._shapes = {name: spec.shape for name, spec in inputs.items()}
        options: dict[str, str | int | bool | Callable[..., Any]] = {"freezing": True, "cpp.threads": num_threads}
        # Convolutions in channels_last took a third of the time (cnn-b64, batch 256); other layers are not concerned.
        module = module.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if is_bf16:  # the weights themselves: under autocast the same network took seven times as long
            module = module.bfloat16()
        network = torch.compile(module, dynamic=True, options=options)
        self._network: Network | None = network
        for size in sorted({1, 2, num_rows}):
            try:
                logits = self._logits(network, example_of(inputs, size))
            except RuntimeError as error:  # torch's own errors are of this class, those of the compiler too
                raise ConfigError(
                    f"the network {self._name} must be one that torch can compile here, got {type(error).__name__}; "
                    "choose another runtime",
                    detail=str(error),
                ) from error
        self._empty = np.empty((0, logits.shape[1]), dtype=np.float32)

    def run(self, inputs: NamedArrays) -> dict[str, Array]:
        """`{"logits": float32 [n, num_outputs]}` for float32 `inputs` [n, ...], in the order the module takes them."""
        network = self._network
        if network is None:
            raise closed()
        if [array.shape[1:] for array in inputs.values()] != list(self._shapes.values()):
            raise unfit(f"the network's {self._shapes}", inputs, ValueError("another shape of one row"))
        if not all(map(len, inputs.values())):
            return {LOGITS: self._empty.copy()}
        tensors = tuple(torch.from_numpy(np.require(array, requirements=["C", "W"])) for array in inputs.values())
        return {LOGITS: self._logits(network, tensors)}

    def close(self) -> None:
        """Let go of the compiled network."""
        self._network = None

    def _logits(self, network: Network, tensors: tuple[torch.Tensor, ...]) -> Array:
        # no_grad, not inference_mode: only there does inductor take the weights for constants
        with torch_threads(self._num_threads), torch.no_grad():
            logits: Array = network(*map(self._cast, tensors)).float().numpy()
        return logits

    def _cast(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.bfloat16() if self._is_bf16 and tensor.is_floating_point() else tensor
