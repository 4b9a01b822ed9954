"""The one protocol behind which every inference library stands, and the names that graphs and runtimes agree on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

from corelane.core.errors import BundleError, NotReadyError
from corelane.core.types import Array, NamedArrays

LOGITS = "logits"
"""Name of the one output of every network of Corelane's: float32 [n, num_outputs], before softmax or un-standardising.
"""

RowShape: TypeAlias = tuple[int | None, ...]
"""Shape of one row of an array, None where a size is free."""


class Runtime(Protocol):
    """Runs one network on arrays. `run` may be called by several threads at once; `close` may be called twice."""

    def run(self, inputs: NamedArrays) -> dict[str, Array]:
        """The network's outputs for `inputs`, one array [n, ...] per pipeline output, contiguous.

        Returns arrays [n, ...] by output name; of a network of Corelane's, `{"logits": float32 [n, num_outputs]}`.
        Raises `BundleError` when an array does not fit the network.
        """
        ...

    def close(self) -> None:
        """Let go of the network's memory and threads."""
        ...


class GraphRuntime(Runtime, Protocol):
    """A runtime that was made from a graph file, and says what the file takes and gives."""

    @property
    def inputs(self) -> Mapping[str, RowShape]:
        """Shape of one row of each input."""
        ...

    @property
    def outputs(self) -> Mapping[str, RowShape]:
        """Shape of one row of each output."""
        ...


def unfit(network: str, inputs: NamedArrays, error: Exception) -> BundleError:
    """For arrays that `network` does not take: the pipeline made them, so the package is at fault."""
    got = {name: (str(array.dtype), array.shape) for name, array in inputs.items()}
    return BundleError(f"inputs must fit {network}, got {got}; package the run again", detail=str(error))


def closed() -> NotReadyError:
    """For a call after `close`."""
    return NotReadyError("the runtime must be open, got one that was closed; load the package again")
