"""The one protocol behind which every inference library stands, and the names that graphs and runtimes agree on."""

from __future__ import annotations

from typing import Protocol

from corelane.core.types import Array, NamedArrays

LOGITS = "logits"
"""Name of the one output of every network: float32 [n, num_outputs], before softmax or un-standardising."""


class Runtime(Protocol):
    """Runs one network on arrays. `run` may be called by several threads at once; `close` may be called twice."""

    def run(self, inputs: NamedArrays) -> dict[str, Array]:
        """The network's outputs for `inputs`, one array per pipeline output, float32 [n, ...] and contiguous.

        Returns `{"logits": float32 [n, num_outputs]}`. Raises `BundleError` when an array does not fit the network.
        """
        ...

    def close(self) -> None:
        """Let go of the network's memory and threads."""
        ...
