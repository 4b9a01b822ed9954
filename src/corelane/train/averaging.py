"""The exponential moving average of the weights, which often predicts better than the weights of any one step.

Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992. The average starts with a short
memory, min(decay, (1 + t) / (10 + t)) after t updates, as TensorFlow's `ExponentialMovingAverage` does, so that it does
not carry the initial weights along. Buffers (the statistics of batch norm) are averaged too; counts are copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from corelane.core.errors import StateError

VERSION = 1


class Averaging(Protocol):
    """Follows the weights of one module."""

    def update(self) -> None:
        """A step was taken."""
        ...

    def swapped_in(self) -> Any:
        """A context in which the module has the averaged weights."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The average so far: JSON values and tensors."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it over."""
        ...


def averaging_for(module: torch.nn.Module, decay: float | None) -> Averaging:
    """An average of the weights of `module`; none where `decay` is None."""
    return NoAverage() if decay is None else AveragedWeights(module, decay)


class NoAverage:
    """The module's own weights are what is evaluated."""

    def update(self) -> None:
        """Nothing to follow."""

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The weights as they are."""
        yield

    def state_dict(self) -> dict[str, Any]:
        """The version alone."""
        return {"version": VERSION}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises `StateError` when its version is unknown."""
        _check_version(state)


class AveragedWeights:
    """The average with the given `decay` of the parameters and buffers of `module`: one fused call a step."""

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self._decay = decay
        self._num_updates = 0
        state = {name: tensor.detach() for name, tensor in module.state_dict(keep_vars=True).items()}
        self._live = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
        self._average = {name: tensor.clone() for name, tensor in self._live.items()}
        self._averages, self._lives = list(self._average.values()), list(self._live.values())

    def update(self) -> None:
        """Move the average a little towards the present weights."""
        self._num_updates += 1
        decay = min(self._decay, (1 + self._num_updates) / (10 + self._num_updates))
        torch._foreach_lerp_(self._averages, self._lives, 1.0 - decay)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The module has the averaged weights inside, its own again afterwards, bit for bit."""
        own = [tensor.clone() for tensor in self._lives]
        torch._foreach_copy_(self._lives, self._averages)
        try:
            yield
        finally:
            torch._foreach_copy_(self._lives, own)

    def state_dict(self) -> dict[str, Any]:
        """Version, number of updates, and the averaged tensors by name."""
        return {"version": VERSION, "num_updates": self._num_updates, "average": dict(self._average)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take `state` over. Raises `StateError` when its version is unknown or a tensor does not fit."""
        _check_version(state)
        saved: Mapping[str, Tensor] = state.get("average", {})
        for name, average in self._average.items():
            if name not in saved or saved[name].shape != average.shape:
                raise StateError(
                    f"the averaged weights must hold {name!r} of shape {list(average.shape)}, got "
                    f"{list(saved[name].shape) if name in saved else 'none'}; resume with the configuration of the run"
                )
            average.copy_(saved[name])
        self._num_updates = int(state["num_updates"])


def _check_version(state: Mapping[str, Any]) -> None:
    if state.get("version") != VERSION:
        raise StateError(f"the averaged weights must have version {VERSION}, got {state.get('version')!r}")
