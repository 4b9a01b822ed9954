"""Adam's and AdamW's fused kernel without what torch's `Optimizer.step` does around it: hooks, profiling, regrouping.

That takes 100 us a step on top of the 120 that the kernel takes for the 784-256-256-10 MLP. Everything else of the
optimiser stays in charge: its groups, its state, its state dict. Called by `update.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from corelane.train.moments import Moments

_KERNELS: dict[type[Optimizer], Callable[..., None]] = {
    torch.optim.Adam: torch._fused_adam_,
    torch.optim.AdamW: torch._fused_adamw_,
}


def step_of(optimizer: Optimizer) -> Callable[[], None]:
    """What takes a step of `optimizer`, with the bits of its own `step`; that itself where there is no shorter way."""
    kernel = _KERNELS.get(type(optimizer))
    if kernel is None or not all(group.get("fused") for group in optimizer.param_groups):
        return optimizer.step
    return FusedStep(optimizer, kernel)


class FusedStep:
    """Calls `kernel` on the parameters of `optimizer` that have gradients, with its `grad_scale`."""

    def __init__(self, optimizer: Optimizer, kernel: Callable[..., None]) -> None:
        self._optimizer = optimizer
        self._kernel = kernel
        self._moments: dict[int, Moments] = {}

    def __call__(self) -> None:
        """Take the step."""
        with torch.no_grad():
            for number, group in enumerate(self._optimizer.param_groups):
                parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
                if parameters:
                    self._run(group, parameters, self._moments_of(number, parameters))

    def _moments_of(self, number: int, parameters: list[Tensor]) -> Moments:
        """Those of the group with this number, gathered anew where other parameters have gradients."""
        moments = self._moments.get(number)
        if moments is None or not moments.are_of(self._optimizer, parameters):
            moments = self._moments[number] = Moments.of(self._optimizer, parameters)
        return moments

    def _run(self, group: dict[str, Any], parameters: list[Tensor], moments: Moments) -> None:
        counts = moments.counts
        counts += 1.0
        beta1, beta2 = group["betas"]
        self._kernel(
            parameters,
            [parameter.grad for parameter in parameters],
            moments.means,
            moments.squares,
            [],
            moments.steps,
            amsgrad=False,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
            grad_scale=getattr(self._optimizer, "grad_scale", None),
            found_inf=None,
        )
