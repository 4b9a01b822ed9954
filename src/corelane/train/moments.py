"""What Adam and AdamW keep for each weight, gathered once and not for every step.

Looking it up costs 10 us a step, and a call of torch that adds 1 to a dozen counts 20, of 1,200. Used by `fused.py` and
by the engine that compiles the whole step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from corelane.core.types import FloatArray


@dataclass(frozen=True)
class Moments:
    """Means and squares of the gradients of `parameters`, and how many steps each has seen: the optimiser's tensors.

    `counts` float32 [parameters] shares the memory of `steps`.
    """

    parameters: Sequence[Tensor]
    means: list[Tensor]
    squares: list[Tensor]
    steps: list[Tensor]
    counts: FloatArray

    @classmethod
    def of(cls, optimizer: Optimizer, parameters: Sequence[Tensor]) -> Moments:
        """Those of `optimizer`, made as it makes them where it has none. A checkpoint cannot tell the difference."""
        states = [optimizer.state[parameter] for parameter in parameters]
        counts = torch.tensor([float(state.get("step", 0.0)) for state in states])
        steps = list(counts)
        for state, parameter, step in zip(states, parameters, steps, strict=True):
            if not state:
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["step"] = step
        means, squares = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq"))
        return cls(parameters, means, squares, steps, counts.numpy())

    def are_of(self, optimizer: Optimizer, parameters: Sequence[Tensor]) -> bool:
        """Whether these are still what `optimizer` has for `parameters`: it may have loaded a state since."""
        if len(self.parameters) != len(parameters):
            return False
        state = optimizer.state
        return all(
            mine is theirs and state[mine].get("step") is step
            for mine, theirs, step in zip(self.parameters, parameters, self.steps, strict=True)
        )
